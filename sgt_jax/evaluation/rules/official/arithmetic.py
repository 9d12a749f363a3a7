"""The value of a reply that an official scorer would evaluate as a Python expression, without evaluating Python.

Constants, tuples, lists and arithmetic of numbers have the value that Python gives. Names and calls have none: the
official scorer would run them. Neither has a number of more than `MOST_BITS` bits, or an expression of more than
`LONGEST` characters: the official scorer would not come back.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

from sgt_jax.errors import DataError

MOST_BITS = 4096
LONGEST = 1000
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip


class NoValueError(DataError):
    """The text has no value that we may compute."""


def value(text: str) -> Any:
    """The value of an arithmetic expression.

    Raises:
      NoValueError: not one, or too large.
    """
    if len(text) > LONGEST:
        raise NoValueError(f"an expression of {len(text)} characters; at most {LONGEST}")
    try:
        return _of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise NoValueError(f"{text[:40]!r} has no value: {error}") from None


def _of(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        made = tuple if isinstance(node, ast.Tuple) else list
        return made(_of(part) for part in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_number(_of(node.operand)))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _number(_of(node.left)), _number(_of(node.right))
        _check_size(node.op, left, right)
        return _BINARY[type(node.op)](left, right)
    raise NoValueError(f"{type(node).__name__} is no arithmetic")


def _number(found: Any) -> int | float | complex:
    if isinstance(found, int | float | complex):
        return found
    raise NoValueError(f"{type(found).__name__} is no number")


def _check_size(op: ast.operator, left: Any, right: Any) -> None:
    """Refuses integers of too many bits before they are computed."""
    if not (isinstance(left, int) and isinstance(right, int)):
        return
    bits = max(left.bit_length(), right.bit_length())
    if isinstance(op, ast.Pow):
        bits = left.bit_length() * max(right, 1)
    elif isinstance(op, ast.LShift):
        bits = left.bit_length() + max(right, 0)
    elif isinstance(op, ast.Mult):
        bits = left.bit_length() + right.bit_length()
    if bits > MOST_BITS:
        raise NoValueError(f"a number of {bits} bits; at most {MOST_BITS}")
