"""The tables of docs/clients.md, from the results."""

import statistics


def _table(header: list[str], rows: list[list]) -> str:
  lines = [header, ["---"] * len(header), *rows]
  return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _count(value: int | None) -> str:
  return "not reached" if value is None else f"{value:,}"


def _ratio(alone: float | None, ours: float | None) -> str:
  return "" if alone is None or ours is None else f"{ours / alone:.2f}"


def _seconds(value: float | None) -> str:
  return "" if value is None else f"{value:.1f}"


def gradients(rows: list[dict]) -> str:
  """True gradients and seconds to the final loss of the run without."""
  header = ["library", "loop", "optimizer", "alone", "accelerated", "share"]
  header += ["seconds alone", "seconds accelerated"]
  lines = []
  for row in rows:
    (alone, ours), (alone_s, ours_s) = row["gradients"], row["seconds"]
    lines.append(
      [
        f"{row['library']} {row['version']}",
        row["loop"],
        row["rule"],
        _count(alone),
        _count(ours),
        _ratio(alone, ours),
        _seconds(alone_s),
        _seconds(ours_s),
      ]
    )
  return _table(header, lines)


def gaps(rows: list[dict]) -> str:
  """True gradients to shares of the way to the best loss of either run."""
  names = list(rows[0]["gradients_to_gap"]) if rows else []
  lines = [
    [
      f"{row['library']}, {row['loop']}",
      *(
        f"{_count(alone)} / {_count(ours)}"
        for alone, ours in row["gradients_to_gap"].values()
      ),
    ]
    for row in rows
  ]
  return _table(["library, loop", *names], lines)


def noisy(rows: list[dict]) -> str:
  """Last losses with minibatches, over seeds."""
  lines = []
  for row in rows:
    losses = [seed["loss"] for seed in row["seeds"]]
    ratios = [ours / alone for alone, ours in losses]
    known = [
      seed["predicted_steps"] / seed["losses"]
      for seed in row["seeds"]
      if seed["predicted_steps"] is not None
    ]
    lines.append(
      [
        f"{row['library']} {row['version']}",
        row["loop"],
        row["rule"],
        *(f"{statistics.mean(x):.4g}" for x in zip(*losses, strict=True)),
        f"{min(ratios):.3f} to {max(ratios):.3f}",
        f"{max(known):.2f}" if known else "the loop drops the state",
      ]
    )
  header = ["library", "loop", "optimizer", "loss alone", "loss accelerated"]
  return _table([*header, "ratio", "predicted steps per gradient"], lines)


def summary(rows: list[dict]) -> str:
  """The median share of true gradients, and the worst."""
  shares = [
    float("inf") if ours is None else ours / alone
    for alone, ours in (row["gradients"] for row in rows)
  ]
  worst = "not reached" if max(shares) == float("inf") else f"{max(shares):.2f}"
  median = statistics.median(shares)
  return f"Share of the true gradients: median {median:.2f}, worst {worst}.\n"


def all_of(content: dict) -> dict[str, str]:
  """Name -> Markdown of every table on the page."""
  return {
    "clients": gradients(content["rows"]),
    "summary": summary(content["rows"]),
    "gaps": gaps(content["rows"]),
    "noisy": noisy(content["noisy"]),
  }
