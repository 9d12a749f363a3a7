"""Reads a code base as trees of syntax and finds what breaks a rule of the house; nothing is imported or run.

Every function takes {path in the repository: text}, or imports found in it, and returns what breaks its rule, so that a
rule can be tried on a few made-up files. `tests/test_house.py` says what the rules are.
"""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "sgt_jax"
# Folders at the top level of the repository that setup.cfg installs as subpackages.
MAPPED = ("configs", "launch")


class Import(NamedTuple):
    """Module `by` imports module `of`, or names it in a string (as what opens a module by its name does)."""

    by: str
    of: str
    line: int
    in_string: bool

    def __str__(self) -> str:
        return f"{self.by}:{self.line} {'names' if self.in_string else 'imports'} {self.of}"


def read_files(repository: Path, *folders: str) -> dict[str, str]:
    """{path: text} of every Python file below these folders of a repository."""
    paths = sorted(path for folder in folders for path in (repository / folder).rglob("*.py"))
    return {path.relative_to(repository).as_posix(): path.read_text() for path in paths}


def module_name(path: str) -> str:
    """What the file is imported as: "configs/nano.py" is sgt_jax.configs.nano, a folder's __init__.py is the folder."""
    name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return f"{PACKAGE}.{name}" if name.split(".")[0] in MAPPED else name


def wing(module: str) -> str:
    """The part of sgt_jax that a module belongs to; "" is the package itself."""
    return (module.split(".") + [""])[1]


@functools.lru_cache(maxsize=2000)
def parsed(text: str) -> ast.Module:
    """The tree of a file's text; every rule looks at the same files, so it is kept."""
    return ast.parse(text)


def find_imports(files: Mapping[str, str]) -> list[Import]:
    """Every import of one of these modules by another, also within functions and by a name in a string."""
    return list(_found_imports(tuple(files.items())))


@functools.lru_cache(maxsize=4)
def _found_imports(files: tuple[tuple[str, str], ...]) -> list[Import]:
    modules = {module_name(path) for path, _ in files}
    found = []
    for path, text in files:
        by = module_name(path)
        tree = parsed(text)
        package = by if path.endswith("__init__.py") else by.rpartition(".")[0]
        for line, target in _imported(tree, package):
            # What follows the last module in `from a.b import c` is a name in it.
            names = (target, target.rpartition(".")[0])
            found += [Import(by, of, line, False) for of in names if of in modules][:1]
        for line, pattern in _named_in_strings(tree):
            found += [Import(by, of, line, True) for of in sorted(modules) if re.fullmatch(pattern, of)]
    return [one for one in found if one.of != one.by]


def _imported(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that import statements ask for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


_DOTTED = re.compile(PACKAGE + r"(\.(\w|\{\}|%s)+)+\.?(:\w+)?")


def _named_in_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, pattern of module names) of every string that is a dotted name below sgt_jax; holes stand for any names.

    What follows "-m" in a list of words is left out: that is a command for another process, or one that is only shown.
    """
    strings, parts = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            strings.append(node)
            parts |= {id(part) for part in node.values}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.append(node)
        elif isinstance(node, ast.List | ast.Tuple):
            after = zip(node.elts, node.elts[1:])
            parts |= {id(word) for option, word in after if isinstance(option, ast.Constant) and option.value == "-m"}
    for node in strings:
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif id(node) in parts:
            continue
        else:
            text = re.sub(r"\{\w*\}", "{}", node.value)
        if _DOTTED.fullmatch(text):
            dotted = text.split(":")[0].replace("%s", "{}")
            dotted += "{}" if dotted.endswith(".") else ""
            yield node.lineno, r"\w[\w.]*".join(re.escape(piece) for piece in dotted.split("{}"))


def forbidden_arrows(imports: Iterable[Import], arrows: Mapping[str, str]) -> list[Import]:
    """Imports from one wing into another that `arrows` does not name: {wing: wings it may import, apart by spaces}."""
    return [
        one
        for one in imports
        if wing(one.by) != wing(one.of) and wing(one.of) and wing(one.of) not in arrows.get(wing(one.by), "").split()
    ]


def arrows_upwards(arrows: Mapping[str, str]) -> list[str]:
    """Arrows of a table that lead to a wing which does not stand further down in that table."""
    order = list(arrows)
    return [
        f"{by} -> {of}"
        for by, wings in arrows.items()
        for of in wings.split()
        if of not in order or order.index(of) <= order.index(by)
    ]


def circles(imports: Iterable[Import]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others; each sorted."""
    leads_to: dict[str, set[str]] = defaultdict(set)
    for one in imports:
        leads_to[one.by].add(one.of)
    reached = {module: reach({module}, leads_to) for module in list(leads_to)}
    groups = {
        tuple(sorted(other for other in within if module in reached.get(other, ())))
        for module, within in reached.items()
        if module in within
    }
    return [list(group) for group in sorted(groups)]


def reach(start: Collection[str], leads_to: Mapping[str, Collection[str]]) -> set[str]:
    """All that can be reached from `start` by at least one arrow."""
    found: set[str] = set()
    todo = list(start)
    while todo:
        new = set(leads_to.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return found


def belongs_to(module: str, rooms: Iterable[str]) -> bool:
    """Whether a module is one of these or lies within one."""
    return any(module == room or module.startswith(room + ".") for room in rooms)


def imports_of_families(imports: Iterable[Import], families: Iterable[str], everyones: Collection[str]) -> list[Import]:
    """Imports of a family's rooms from elsewhere than its own rooms and the rooms that may import every family."""
    found = []
    for family in families:
        rooms = [f"{PACKAGE}.{place}.{family}" for place in ("models", "data.layouts", "parity")]
        found += [
            one
            for one in imports
            if belongs_to(one.of, rooms) and not belongs_to(one.by, rooms) and not belongs_to(one.by, everyones)
        ]
    return found


def imports_of_libraries(files: Mapping[str, str], rooms: Collection[str], libraries: Collection[str]) -> list[str]:
    """Files that import one of these libraries and lie in these rooms, or are imported by what does, however indirectly."""
    leads_to: dict[str, set[str]] = defaultdict(set)
    for one in find_imports(files):
        leads_to[one.by].add(one.of)
    start = {module_name(path) for path in files if belongs_to(module_name(path), rooms)}
    within = start | reach(start, leads_to)
    return [
        f"{path}:{line} imports {name}"
        for path, text in files.items()
        if module_name(path) in within
        for line, name in _imported(parsed(text), "")
        if name.split(".")[0] in libraries
    ]


def long_functions(files: Mapping[str, str], limit: int, but: Collection[str] = ()) -> list[str]:
    """Functions of more lines than `limit`, their decorators and docstring counted; `but` are names without a bound."""
    return [
        f"{path} {node.name}"
        for path, text in files.items()
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in but
        if node.end_lineno - min([node.lineno, *(one.lineno for one in node.decorator_list)]) + 1 > limit
    ]


def long_files(files: Mapping[str, str], limit: int) -> list[str]:
    """Files of more lines than `limit`."""
    return [path for path, text in files.items() if len(text.splitlines()) > limit]


def uses_of_sys_path(files: Mapping[str, str]) -> list[str]:
    """Places that change or read where Python looks for modules, also in the text of a child process."""
    word = "sys" + ".path"
    found = []
    for path, text in files.items():
        for node in ast.walk(parsed(text)):
            named = isinstance(node, ast.Attribute) and ast.unparse(node) == word
            from_sys = (
                isinstance(node, ast.ImportFrom) and node.module == "sys" and "path" in [a.name for a in node.names]
            )
            prepended = isinstance(node, ast.Attribute) and node.attr == "syspath_prepend"
            quoted = (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(rf"\b{word}\b", node.value)
            )
            if named or from_sys or prepended or quoted:
                found.append(f"{path}:{node.lineno}")
    return found


def packages(files: Iterable[str]) -> list[str]:
    """Names of all packages: folders that hold Python files."""
    return sorted({module_name(f"{path.rpartition('/')[0]}/__init__.py") for path in files})


def has_init(files: Collection[str], package: str) -> bool:
    """Whether the folder of a package holds an __init__.py."""
    return any(path.endswith("/__init__.py") and module_name(path) == package for path in files)


def new_and_needless(found: Iterable[str], known: Collection[str]) -> dict[str, list[str]]:
    """What breaks a rule and is not known, and what is known and breaks it no more; both empty when all is well."""
    found = set(found)
    return {"new": sorted(found - set(known)), "no longer needed": sorted(set(known) - found)}
