"""CRC-32C (Castagnoli, as in RFC 3720), the check sum of TensorFlow's checkpoints, without its library.

A message is cut into lanes that advance byte by byte side by side and are joined at the end: the register is
linear over bits, and what it does over a number of zero bytes is a product of 32 x 32 matrices of bits.
"""

import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)  # least significant bit first
_LANE = 2048  # bytes of a lane, about
_ALL = np.uint32(0xFFFFFFFF)


def crc32c(message: np.ndarray) -> int:
    """The check sum of bytes (N,) uint8; about a second for 100 MB."""
    lanes = 1 << max(0, (len(message) // _LANE).bit_length() - 1)
    length = -(-len(message) // lanes)
    # Zeros in front of a message do not change a register that begins with 0.
    padded = np.concatenate([np.zeros(lanes * length - len(message), np.uint8), message])
    registers = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, length).T):
        registers = (registers >> 8) ^ _BYTES[(registers & 255) ^ column]
    while len(registers) > 1:
        registers = _over_zeros(registers[::2], length) ^ registers[1::2]
        length *= 2
    start = _over_zeros(np.array([_ALL]), len(message))
    return int(registers[0] ^ start[0] ^ _ALL)


def _over_zeros(registers: np.ndarray, count: int) -> np.ndarray:
    """The registers after so many zero bytes."""
    for place in range(count.bit_length()):
        if count >> place & 1:
            registers = _product(_DOUBLINGS[place], registers)
    return registers


def _product(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """A matrix of bits, by its columns, times registers."""
    result = np.zeros_like(registers)
    for place, column in enumerate(matrix):
        result ^= np.where(registers >> np.uint32(place) & 1, column, np.uint32(0))
    return result


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ _POLYNOMIAL, table >> 1)
    return table


def _doublings() -> list[np.ndarray]:
    """Matrices for 1, 2, 4, ... zero bytes."""
    units = np.uint32(1) << np.arange(32, dtype=np.uint32)
    matrices = [(units >> 8) ^ _BYTES[units & 255]]
    for _ in range(40):
        matrices.append(_product(matrices[-1], matrices[-1]))
    return matrices


_BYTES = _byte_table()
_DOUBLINGS = _doublings()
