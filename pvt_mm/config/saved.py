"""Read the config that a checkpoint of mmengine has as text."""

import ast
from collections.abc import Mapping
from typing import Any


def saved_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the run that saved a checkpoint.

    Its text is read, not run.

    Args:
        meta: of the checkpoint.

    Returns:
        Top-level key -> value; without keys whose value is no plain data,
        and empty if there is no text, or none of a config.
    """
    try:
        return literals(str(meta.get('cfg') or ''))
    except SyntaxError:  # mmengine writes some objects as <...>
        return {}


def literals(text: str) -> dict[str, Any]:
    """Values of plain data in the text of a config, by top-level key."""
    found = {}
    for line in ast.parse(text).body:
        if isinstance(line, ast.Assign) and len(line.targets) == 1:
            try:
                found[ast.unparse(line.targets[0])] = literal(line.value)
            except ValueError:
                continue
    return found


def literal(node: ast.expr) -> Any:
    """The value of plain data: of ``dict(...)`` too.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        pairs = [literal(each) for each in node.args]
        named = {k.arg: literal(k.value) for k in node.keywords if k.arg}
        return dict(*pairs, **named)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'float':
        return float(ast.literal_eval(node.args[0]))
    if isinstance(node, ast.Dict) and None not in node.keys:
        values = map(literal, node.values)
        return dict(zip(map(literal, node.keys), values, strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [literal(each) for each in node.elts]
    return ast.literal_eval(node)
