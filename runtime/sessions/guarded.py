"""Sessions of hardware that may be a GPU, which keep clear of captures of CUDA graphs."""

from typing import Any

import onnxruntime

from fusioncam.kernels.captures import CAPTURES


class GuardedSession(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session that opens, runs and ends while no CUDA graph is captured."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with CAPTURES.shared(long=True):  # TensorRT builds its engines meanwhile
            super().__init__(*arguments, **options)

    def run(self, *arguments: Any, **options: Any) -> Any:
        """Run the session, as `InferenceSession.run` does."""
        with CAPTURES.shared():
            return super().run(*arguments, **options)

    def run_with_iobinding(self, *arguments: Any, **options: Any) -> None:
        """Run the session on bound memory, as `InferenceSession.run_with_iobinding` does."""
        with CAPTURES.shared():
            super().run_with_iobinding(*arguments, **options)

    def __del__(self) -> None:
        held = [self.__dict__.pop("_sess", None)]  # onnxruntime's own object
        CAPTURES.free(held.clear)
