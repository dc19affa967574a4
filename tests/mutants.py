"""Breaks the code in small ways, one at a time, and tells which of them no test has noticed.

    python -m tests.mutants storage checkpoints inference --count 12 --seed 1

Works on a copy of the checkout. A mutant that survives is a missing test, or a change that changes nothing.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

SUBJECTS: dict[str, tuple[list[str], list[str]]] = {
    "storage": (
        ["components/storage/*.py"],
        [
            f"tests/storage/test_{name}.py"
            for name in ("local_storage", "locations", "objects", "conditions", "bulk")
        ],
    ),
    "checkpoints": (
        ["components/train/loop/checkpoint.py"],
        ["tests/train/loop/test_checkpoint.py"],
    ),
    "inference": (
        ["components/compare/inference.py", "components/compare/verdict.py", "components/compare/compare.py"],
        ["tests/compare"],
    ),
}
"""Files, and tests that should hold them and need no luck with the time; others may notice a survivor."""

OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """A change of one expression or statement.

    Attributes:
        path: of the file, within the checkout.
        line: where it is, from 1.
        before: what stands there.
        after: what is put there.
        text: the whole changed file.
    """

    path: Path
    line: int
    before: str
    after: str
    text: str


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    source = (REPOSITORY / path).read_text()
    starts = [0]
    for row in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(row.encode()))
    content = source.encode()
    nodes = list(ast.walk(ast.parse(source)))
    conditions = [node.test for node in nodes if isinstance(node, ast.If | ast.While | ast.IfExp)]
    for node in nodes:
        for after in changes(node, conditions):
            assert isinstance(node, ast.expr | ast.stmt)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            text = content[:begin] + after.encode() + content[end:]
            yield Mutant(path, node.lineno, content[begin:end].decode(), after, text.decode())


def changes(node: ast.AST, conditions: list[ast.expr]) -> Iterator[str]:
    """What may be put in a node's place, as source; `conditions` are those of the file's branches."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in OPPOSITES:
            changed = ast.Compare(node.left, [OPPOSITES[type(op)]()], node.comparators)  # type: ignore[list-item]
            yield f"({ast.unparse(changed)})"
        case ast.BoolOp(op=op):
            yield f"({ast.unparse(ast.BoolOp(OPPOSITES[type(op)](), node.values))})"  # type: ignore[arg-type]
        case ast.BinOp(op=op) if type(op) in OPPOSITES:
            changed_sum = ast.BinOp(node.left, OPPOSITES[type(op)](), node.right)  # type: ignore[arg-type]
            yield f"({ast.unparse(changed_sum)})"
        case ast.UnaryOp(op=ast.Not()):
            yield f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool()):
            yield str(not node.value)
        case ast.Constant(value=int() | float()):
            yield f"({node.value} + 1)"
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield "pass"
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield "return None"
        case ast.Call() | ast.NamedExpr() if node in conditions:
            yield f"(not ({ast.unparse(node)}))"


def copy_of_the_checkout(place: Path) -> Path:
    """All but what is installed and what runs have left."""
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "optduel-runs")
    return Path(shutil.copytree(REPOSITORY, place / "checkout", symlinks=True, ignore=ignored))


def passes(checkout: Path, tests: list[str], seconds: float) -> bool:
    """Whether all tests pass in time."""
    environment = os.environ | {"PYTHONPATH": str(checkout / ".src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return False


def hunt(subject: str, count: int, seed: int) -> list[Mutant]:
    """Tries so many mutants of a subject; returns those that nobody noticed."""
    patterns, tests = SUBJECTS[subject]
    paths = sorted(path for pattern in patterns for path in REPOSITORY.glob(pattern))
    found = [mutant for path in paths for mutant in mutants_of(path.relative_to(REPOSITORY))]
    chosen = random.Random(seed).sample(found, min(count, len(found)))
    survivors = []
    with tempfile.TemporaryDirectory(prefix="optduel-mutants-") as place:
        checkout = copy_of_the_checkout(Path(place))
        began = time.monotonic()
        if not passes(checkout, tests, 3600):
            raise SystemExit(f"{subject}: the tests fail without any change")
        patience = 3 * (time.monotonic() - began) + 60
        for mutant in chosen:
            file = checkout / mutant.path
            before = file.read_text()
            file.write_text(mutant.text)
            survived = passes(checkout, tests, patience)
            file.write_text(before)
            survivors += [mutant] * survived
            fate = "SURVIVED" if survived else "noticed"
            say(f"{fate:8}  {mutant.path}:{mutant.line}: {mutant.before!r} -> {mutant.after!r}")
    say(f"{subject}: {len(survivors)} of {len(chosen)} survived, drawn from {len(found)} with seed {seed}")
    return survivors


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Hunts in each subject; exits with 1 where a mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("subjects", nargs="+", choices=SUBJECTS)
    parser.add_argument("--count", type=int, default=12, help="mutants of each subject (12)")
    parser.add_argument("--seed", type=int, default=1, help="of their choice (1)")
    options = parser.parse_args()
    survivors = [one for name in options.subjects for one in hunt(name, options.count, options.seed)]
    raise SystemExit(1 if survivors else 0)


if __name__ == "__main__":
    main()
