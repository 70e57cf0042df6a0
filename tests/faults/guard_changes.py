"""What can be done to a guard, so that its test must fail."""

import ast
from collections.abc import Callable

Marked = ast.stmt | ast.ExceptHandler
Change = Callable[[Marked, int], ast.AST]  # of a statement and the line of its mark


def remove(statement: Marked, line: int) -> ast.AST:
    """Replace the statement by `pass`."""
    return ast.Pass()


def never(statement: Marked, line: int) -> ast.AST:
    """Let the condition of an `if` or `while` be false."""
    return with_condition(statement, holds=False)


def always(statement: Marked, line: int) -> ast.AST:
    """Let the condition of an `if` or `while` be true."""
    return with_condition(statement, holds=True)


def with_condition(statement: Marked, *, holds: bool) -> ast.AST:
    assert isinstance(statement, ast.If | ast.While), ast.dump(statement)
    statement.test = ast.Constant(holds)
    return statement


def uncaught(statement: Marked, line: int) -> ast.AST:
    """Let the handler catch an exception that nothing raises."""
    assert isinstance(statement, ast.ExceptHandler), ast.dump(statement)
    statement.type = ast.Name("BytesWarning", ast.Load())
    return statement


def without_argument(statement: Marked, line: int) -> ast.AST:
    """Drop the argument of a call that begins on the line of the mark."""
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    arguments = [(call, part) for call in calls for part in call.args if part.lineno == line]
    call, argument = max(arguments, key=lambda found: span(found[1]))
    call.args.remove(argument)
    return statement


def constant(old: str, new: str) -> Change:
    """Return a change that replaces a string of the statement by another one."""

    def replace(statement: Marked, line: int) -> ast.AST:
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and node.value == old:
                node.value = new
        return statement

    return replace


def value(source: str) -> Change:
    """Return a change that replaces what is assigned or returned, or the context of a `with`."""

    def replace(statement: Marked, line: int) -> ast.AST:
        expression = ast.parse(source, mode="eval").body
        if isinstance(statement, ast.With | ast.AsyncWith):
            statement.items[0].context_expr = expression
        else:
            assert isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr)
            statement.value = expression
        return statement

    return replace


def span(node: ast.stmt | ast.expr | ast.ExceptHandler) -> tuple[int, int]:
    """Return how much source a node has: lines, then columns."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno - node.lineno, node.end_col_offset - node.col_offset
