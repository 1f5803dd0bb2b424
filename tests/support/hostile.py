"""Bodies that are merely large, and bodies that were made to cost: what a step over any of them may take is bounded."""

from __future__ import annotations

import base64
import json
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from router.gateway.steps import Steps

MB = 1024 * 1024


def picture(size: int, seed: int = 0) -> str:
    """Base64 of so many random bytes."""
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()


def chat(content: object, model: str = "m") -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}]}).encode()


def _repeated(head: bytes, unit: bytes, tail: bytes) -> Callable[[int], bytes]:
    return lambda size: head + unit * max(1, (size - len(head) - len(tail)) // len(unit)) + tail


#: name -> a JSON body of about so many bytes, for the model "m"
JSON: dict[str, Callable[[int], bytes]] = {
    "picture": lambda size: chat(
        [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture(size * 3 // 4)}"}}]
    ),
    "text": lambda size: chat("lorem ipsum dolor sit amet " * (size // 27)),
    "code": lambda size: chat('print("hello")\n' * (size // 18)),
    "umlauts": lambda size: json.dumps({"model": "m", "prompt": "äö€😀" * (size // 11)}, ensure_ascii=False).encode(),
    "messages": lambda size: json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}] * (size // 64)}
    ).encode(),
    "token ids": _repeated(b'{"model":"m","prompt":[', b"12345,", b"1]}"),
    "empty strings": _repeated(b'{"model":"m","input":[', b'"",', b'""]}'),
    "empty lists": _repeated(b'{"model":"m","input":[', b"[],", b"[]]}"),
    "nested": _repeated(b'{"model":"m","input":[', b'[{"a":[{}]}],', b"[]]}"),
    "deep": lambda size: b'{"model":"m","input":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
    "members": _repeated(b'{"model":"m"', b',"a":1', b"}"),
    "models": _repeated(b'{"model":"m"', b',"model":"m"', b"}"),
    "escaped members": _repeated(b'{"model":"m"', b',"\\"":"\\""', b"}"),
    "backslashes": _repeated(b'{"model":"m","input":"', b"\\\\", b'"}'),
    "escaped quotes": _repeated(b'{"model":"m","input":"', b'\\"', b'"}'),
    "space": _repeated(b'{"model":"m",', b" ", b'"input":"x"}'),
    "parts": _repeated(b'{"model":"m","messages":[', b'{"type":"image"},', b"{}]}"),
    "quoted pictures": _repeated(b'{"model":"m","input":"', b'\\"data:image/png;base64,', b'"}'),
    "half marks": _repeated(b'{"model":"m","input":[', b'"data:;;;;;;,",', b'""]}'),
    "half URLs": _repeated(b'{"model":"m","input":[', b'"DATA:image/;;;a;b;c;d,",', b'""]}'),
    "bare pictures": _repeated(b'{"model":"m","input":[{"a":"x"}', b',{"data":"' + b"A" * 400 + b'"}', b"]}"),
    "no end": _repeated(b'{"model":"m","input":"', b"x", b""),
    "no brackets": _repeated(b'{"model":"m","input":[', b"[", b""),
    "NaN": _repeated(b'{"model":"m","input":[', b"NaN,", b"1]}"),
}
#: The same for forms with the boundary "x".
FORMS: dict[str, Callable[[int], bytes]] = {
    "file": lambda size: (
        b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + random.Random(1).randbytes(size)
        + b"\r\n--x--\r\n"
    ),
    "names": _repeated(b"--x\r\n", b'name="model"\r\n', b""),
    "parts": _repeated(
        b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm',
        b'\r\n--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n',
        b"\r\n--x--",
    ),
    "line ends": _repeated(b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n', b"\r\n", b"\r\n--x--"),
    "almost boundaries": _repeated(
        b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm', b"\r\n--xx", b"\r\n--x--"
    ),
    "boundaries": _repeated(b"", b"--x\r\n", b""),
    "parameters": _repeated(b"--x\r\ncontent-disposition: form-data", b'; name="\\', b"\r\n\r\nm\r\n--x--"),
    "no end": _repeated(b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n', b"x", b""),
}


class Work:
    """What the steps of a walk took: the most bytes that one said it handled, and the most instructions of Python."""

    def __init__(self, steps: Steps[Any]) -> None:
        self.steps = self.bytes_max = self.instructions_max = 0
        self.result: Any = None
        self.error: Exception | None = None
        self._count = 0
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            while True:
                self._count = 0
                self.bytes_max = max(self.bytes_max, next(steps))
                self._note()
        except StopIteration as end:
            self.result = end.value
        except Exception as error:
            self.error = error
        finally:
            sys.settrace(before)
        self._note()

    def _note(self) -> None:
        self.steps += 1
        self.instructions_max = max(self.instructions_max, self._count)

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        if "router" not in frame.f_code.co_filename:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._instruction

    def _instruction(self, frame: FrameType, event: str, arg: object) -> Any:
        self._count += event == "opcode"
        return self._instruction
