"""The parts that make a test run fast change none of its numbers."""

import platform
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import timm
import torch

from picopose.model import compiling
from picopose.model.batches import Batches
from picopose.model.folding import fold_batch_norms
from picopose.model.picopose.flow import FlowDecoder
from picopose.utils.device import set_precision, use_bf16
from picopose.utils.errors import InputError
from picopose.utils.lru import Lru
from picopose.utils.stopwatch import Stopwatch


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "repvit_m1", "mobilenetv4_conv_small"])
def test_folded_batch_norms_give_equal_maps(name):
    generator = torch.Generator().manual_seed(0)
    network = timm.create_model(name, features_only=True).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    image = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.inference_mode():
        before, after = network(image), fold_batch_norms(network)(image)
    for expected, found in zip(before, after, strict=True):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    plain = [module for module in network.modules() if type(module) is torch.nn.BatchNorm2d]
    assert len(plain) <= 1  # a deep stem's convolution stands in a group of its own


def test_parts_that_do_not_fit_are_halved_and_tried_again():
    tried = []

    def work(part: slice) -> range:
        tried.append(part.stop - part.start)
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return range(part.start, part.stop)

    batches = Batches(8)
    assert [i for part in batches.run(work, 10) for i in part] == list(range(10))
    assert tried == [8, 4, 2, 2, 2, 2, 2] and batches.size == 2


def test_what_never_fits_is_one_line():
    def work(part: slice):
        raise torch.OutOfMemoryError("CUDA out of memory\nmore")

    with pytest.raises(InputError, match=r"runtime\.batch=1.*runtime\.template_memory"):
        Batches(4).run(work, 2)


def test_the_cache_forgets_what_was_used_longest_ago():
    made = []

    def make(key: str) -> str:
        made.append(key)
        return key

    cache = Lru(5, len)
    for key in ("aa", "bb", "aa", "cc", "aa", "bb"):
        assert cache.get(key, make) == key
    assert made == ["aa", "bb", "cc", "bb"]
    assert cache.get("longer than all", make) == "longer than all" and len(cache) == 1


def test_the_cache_forgets_what_it_is_told_to():
    cache = Lru(5, len)
    for key in ("aa", "bb"):
        cache.get(key, str)
    cache.forget(lambda key: key == "aa")
    assert "aa" not in cache and "bb" in cache
    cache.get("ccc", str)  # the size of what was forgotten counts no longer
    assert "bb" in cache and len(cache) == 2


def test_a_value_is_made_once_whoever_asks():
    made, cache = [], Lru(5)

    def make(key: str) -> object:
        made.append(key)
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda _: cache.get("a", make), range(4)))
    assert made == ["a"] and len(set(map(id, values))) == 1


def test_the_stopwatch_counts_only_while_it_runs():
    stopwatch = Stopwatch(running=False)
    with stopwatch("a"):
        pass
    assert not stopwatch.seconds
    stopwatch.running = True
    assert list(stopwatch.over("wait", [1, 2])) == [1, 2]
    with stopwatch("a"):
        pass
    assert set(stopwatch.seconds) == {"wait", "a"} and "together" in stopwatch.table()


def test_a_compiler_that_fails_is_told_and_done_without(monkeypatch, caplog):
    calls = []

    def use_all(network, bf16):
        calls.append(bf16)
        if len(calls) == 1:
            raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(compiling, "_use_all", use_all)
    network = torch.nn.ModuleDict({name: torch.nn.Identity() for name in ("backbone", "dpt")})
    network["flow"] = FlowDecoder(size=32, features=4, width=4)
    try:
        with caplog.at_level("WARNING"):
            compiling.compile_network(SimpleNamespace(**network), bf16=True)
        assert calls == [True, True] and "no C++ compiler); going on without it" in caplog.text
        assert network["dpt"](torch.ones(1)).item() == 1
        assert network["flow"].project([torch.ones(1, 4, side, side) for side in (2, 4, 8)])[2].shape[-1] == 8
    finally:
        torch.compiler.set_stance("default")


def test_freed_memory_is_kept_on_cpus():
    """Forty tensors of 64 MB one after the other: most use pages that the ones before have brought."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("malloc can only be tuned with glibc")
    program = """
import resource, torch
from picopose.utils.device import choose_device
choose_device("cpu")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40): torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pages = 40 * 2**26 / resource.getpagesize()  # so many faults otherwise
    assert int(done.stdout) < 0.25 * pages


@pytest.mark.parametrize(
    ("wanted", "device", "capability", "used"),
    [
        (None, "cpu", "avx512_bf16", False),
        (True, "cpu", "avx512_bf16", True),
        (True, "cpu", "bf16", True),
        (True, "cpu", "avx2", False),
        (None, "cuda", (9, 0), True),
        (True, "cuda", (8, 0), True),
        (False, "cuda", (9, 0), False),
        (None, "cuda", (7, 5), False),
        (True, "cuda", (7, 0), False),
    ],
)
def test_bfloat16_is_for_hardware_that_has_it(monkeypatch, wanted, device, capability, used):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "architecture": "any"})
    assert use_bf16(wanted, torch.device(device)) is used


def test_single_precision_is_said(monkeypatch):
    """Convolutions may take TF32 unless all is to be exact; products of matrices never."""
    before = torch.backends.cudnn.allow_tf32
    try:
        for exact in (True, False):
            set_precision(exact=exact)
            assert torch.backends.cudnn.allow_tf32 is not exact
            assert not torch.backends.cuda.matmul.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.backends.cudnn.allow_tf32 = before
