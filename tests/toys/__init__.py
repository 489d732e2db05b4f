"""A detector, a method and a refiner from outside of the program: modules with `make_stage`, nothing else."""
