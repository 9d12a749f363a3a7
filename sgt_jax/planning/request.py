"""A request to a model as far as planning needs it. Imports no JAX: the command looks at it first."""

import dataclasses

PROGRAMS = ("painting", "decoding")
TASKS = ("t2i", "edit", "segment")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of the model.

    Attributes:
      task: one of TASKS.
      size: (height, width) of the drawing, or of the picture that is edited or segmented.
      tokens: of the prompt.
      pictures: painted as one batch, all of one request.
      dtype: of parameters and products.
    """

    task: str = "t2i"
    size: tuple[int, int] = (1024, 1024)
    tokens: int = 128
    pictures: int = 1
    dtype: str = "bfloat16"
