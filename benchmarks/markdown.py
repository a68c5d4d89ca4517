"""Markdown that pages are made of."""


def table(head: list[str], rows: list[list[str]]) -> str:
  """A table."""
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
