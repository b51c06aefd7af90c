"""Messages of raw tensors: a frame that names and describes them, and then their bytes, one after the other.

Whoever reads trusts nothing: what a frame says about sizes is held against the limits before a byte is read.
"""

import re
from typing import Any, Dict, List, Optional, Tuple

from edgeopt_runner.protocol import frames

LARGEST_BYTES = 1 << 28
MOST_TENSORS = 1024
HEAD_LIMIT_BYTES = 1 << 20
_MOST_DIMENSIONS = 32
_DTYPE = re.compile(r"[<|][biufc][0-9]{1,2}\Z")
_BLOCK_BYTES = 1 << 20


class TensorError(ValueError):
    """A message that is none: what it says does not fit together, is too large, or ends too early."""


def encode(head: Dict[str, Any], arrays: Dict[str, Any]) -> bytes:
    """The message of some arrays.

    Args:
        head: What else the frame says; ``tensors`` is ours.
        arrays: NumPy arrays of numbers, by name.

    Raises:
        TensorError: They are more than a message holds, or no numbers.
    """
    import numpy as np

    forms, parts, total = [], [], 0
    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        shape = [int(size) for size in np.shape(value)]
        if not _DTYPE.match(array.dtype.str):
            raise TensorError("%.80s has elements of %s, which are no numbers" % (name, array.dtype))
        forms.append([name, array.dtype.str, shape])
        parts.append(array.tobytes())
        total += array.nbytes
    if total > LARGEST_BYTES or len(forms) > MOST_TENSORS:
        raise TensorError("%d tensors of %d bytes are more than a message holds" % (len(forms), total))
    return b"".join([frames.encode(dict(head, tensors=forms))] + parts)


class TensorReader:
    """Takes messages out of a byte stream.

    Args:
        reader: The stream's frames; one that takes heads of `HEAD_LIMIT_BYTES` is enough.
    """

    def __init__(self, reader: frames.FrameReader) -> None:
        self._reader = reader

    def next(self) -> Optional[Tuple[Dict[str, Any], Dict[str, Any]]]:
        """The next head and its arrays; ``None`` where the stream ended between messages.

        Raises:
            FrameError: The head is no frame.
            TensorError: Its tensors are none.
        """
        head = self._reader.next()
        return None if head is None else (head, self.arrays(head))

    def arrays(self, head: Dict[str, Any]) -> Dict[str, Any]:
        """The arrays that belong to a head that was read just now.

        Raises:
            TensorError: They are none, too large, or the stream ended inside them.
        """
        import numpy as np

        found = {}
        for name, dtype, shape, size_bytes in _forms(head.get("tensors")):
            if size_bytes:
                found[name] = np.frombuffer(self._take(size_bytes), np.dtype(dtype)).reshape(shape)
            else:
                found[name] = _empty(name, dtype, shape)
        return found

    def _take(self, count: int) -> bytes:
        """So many bytes, in memory that grows only as they come."""
        parts = []
        while count:
            part = self._reader.rest(min(count, _BLOCK_BYTES))
            if not part:
                raise TensorError("the stream ended inside a tensor")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


Form = Tuple[str, str, List[int], int]
"""Name, element type as NumPy writes it, shape, bytes."""


def _forms(told: Any) -> List[Form]:
    """What a head says about its tensors, checked."""
    if not isinstance(told, list) or len(told) > MOST_TENSORS:
        raise TensorError("tensors are %.80r" % (told,))
    found = [_form(one) for one in told]
    if sum(form[3] for form in found) > LARGEST_BYTES:
        raise TensorError("tensors of %d bytes are more than a message holds" % sum(form[3] for form in found))
    if len({form[0] for form in found}) != len(found):
        raise TensorError("two tensors have one name")
    return found


def _form(told: Any) -> Form:
    import numpy as np

    if not isinstance(told, list) or len(told) != 3:
        raise TensorError("a tensor is %.80r" % (told,))
    name, dtype, shape = told
    if not isinstance(name, str) or not isinstance(dtype, str) or not _DTYPE.match(dtype):
        raise TensorError("a tensor is %.80r" % (told,))
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS or not all(_is_dimension(size) for size in shape):
        raise TensorError("the shape of %.80s is %.80r" % (name, shape))
    try:
        size_bytes = int(np.dtype(dtype).itemsize)
    except TypeError:
        size_bytes = 0
    if not size_bytes:
        raise TensorError("%.80s has elements of %s, which are no numbers" % (name, dtype))
    for size in shape:
        size_bytes *= size
    return name, dtype, shape, size_bytes


def _empty(name: str, dtype: str, shape: List[int]) -> Any:
    import numpy as np

    try:
        return np.zeros(shape, np.dtype(dtype))
    except ValueError as error:
        raise TensorError("%.80s cannot be made: %s" % (name, error))


def _is_dimension(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= LARGEST_BYTES
