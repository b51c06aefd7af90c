"""The few functions of CUDA's runtime that running an engine takes, by ctypes: JetPack brings no Python for them.

Documented in NVIDIA's "CUDA Runtime API", whose C interface is the same from 10.2 to 13.
"""

import ctypes
from typing import Any, List, Optional

LIBRARIES: List[str] = [
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
    "/usr/local/cuda/lib64/libcudart.so",
]
TO_DEVICE, TO_HOST = 1, 2

_PROCESSORS, _MAJOR, _MINOR = 16, 75, 76
"""Numbers of `cudaDeviceAttr`: multiprocessors, and the compute capability's parts."""


class CudaError(RuntimeError):
    """A call failed. The message names it, with CUDA's own words."""


class Cuda:
    """CUDA's runtime on the current device.

    Raises:
        OSError: No such library can be loaded.
    """

    def __init__(self) -> None:
        self._library = _loaded()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            words = self._library.cudaGetErrorString(code) or b""
            raise CudaError("%s failed with code %d: %s" % (name, code, words.decode("utf-8", "replace")))

    def allocate(self, size: int) -> int:
        """Address of memory of the device; 1 byte at least."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(1, size)))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give it back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def stream(self) -> int:
        """A new stream."""
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(handle))
        return int(handle.value or 0)

    def end_stream(self, stream: int) -> None:
        """End a stream."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def copy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        """Order a copy in a stream; `kind` is `TO_DEVICE` or `TO_HOST`."""
        places = ctypes.c_void_p(to), ctypes.c_void_p(source)
        self._call("cudaMemcpyAsync", *(places + (ctypes.c_size_t(size), ctypes.c_int(kind), ctypes.c_void_p(stream))))

    def wait(self, stream: int) -> None:
        """Until all that was ordered in a stream is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def device(self) -> str:
        """What engines depend on: for example ``sm87-8``, the compute capability and number of multiprocessors."""
        value, found = ctypes.c_int(), []
        for attribute in (_MAJOR, _MINOR, _PROCESSORS):
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), ctypes.c_int(0))
            found.append(value.value)
        return "sm%d%d-%d" % (found[0], found[1], found[2])


def _loaded() -> Any:
    last: Optional[OSError] = None
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            last = error
    raise last or OSError("no name to try")
