"""Collectives are read from HLO text with their bytes and their place."""

import pytest

from benchmarks.cost import hlo

TEXT = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body.1 (carry: (f32[4], s32[])) -> (f32[4], s32[]) {
  %carry = (f32[4]{0}, s32[]) parameter(0)
  %x = f32[4]{0} get-tuple-element(%carry), index=0
  %n = s32[] get-tuple-element(%carry), index=1
  %gathered = f32[32]{0} all-gather(%x), dimensions={0}
  ROOT %out = (f32[4]{0}, s32[]) tuple(%x, %n)
}

%condition.1 (carry.1: (f32[4], s32[])) -> pred[] {
  %carry.1 = (f32[4]{0}, s32[]) parameter(0)
  ROOT %more = pred[] constant(false)
}

%no (p: f32[4]) -> f32[4] {
  ROOT %p = f32[4]{0} parameter(0)
}

%yes (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %wide = f32[4,8]{1,0} broadcast(%q), dimensions={0}
  ROOT %part = f32[4]{0} reduce-scatter(%wide), to_apply=%add
}

ENTRY %main (x.1: f32[4], y: bf16[3,2]) -> f32[4] {
  %x.1 = f32[4]{0} parameter(0), sharding={replicated}
  %y = bf16[3,2]{1,0} parameter(1)
  %sums = (f32[4]{0}, /*index=1*/bf16[3,2]{1,0}) all-reduce(%x.1, %y), to_apply=%add
  %first = f32[4]{0} get-tuple-element(%sums), index=0
  %zero = s32[] constant(0)
  %start = (f32[4]{0}, s32[]) tuple(%first, %zero)
  %loop = (f32[4]{0}, s32[]) while(%start), condition=%condition.1, body=%body.1
  %end = f32[4]{0} get-tuple-element(%loop), index=0
  ROOT %last = f32[4]{0} conditional(%zero, %end, %end), branch_computations={%no, %yes}
}
"""


def test_collectives_are_found_where_they_stand():
  found = {c.kind: c for c in hlo.collectives(TEXT)}
  assert len(found) == len(hlo.collectives(TEXT)) == 3
  # 4 floats of 4 bytes and 6 of 2.
  assert found["all-reduce"] == ("all-reduce", ((4,), (3, 2)), 28, ())
  assert found["all-gather"] == ("all-gather", ((32,),), 128, ("while",))
  # What goes in is eight times what comes out.
  scatter = ("reduce-scatter", ((4,),), 128, ("branch 1",))
  assert found["reduce-scatter"] == scatter


def test_asynchronous_collectives_are_refused():
  text = TEXT.replace(" all-gather(", " all-gather-start(")
  with pytest.raises(ValueError, match="all-gather-start is asynchronous"):
    hlo.collectives(text)


def test_text_without_an_entry_is_refused():
  with pytest.raises(ValueError, match="no entry computation"):
    hlo.collectives("HloModule nothing")


def test_operations_are_counted_once_a_loop_and_of_the_longer_branch():
  text = """%body (c: f32[4]) -> f32[4] {
  %c = f32[4]{0} parameter(0)
  %d = f32[4]{0} negate(%c)
  ROOT %e = f32[4]{0} negate(%d)
}

%more (c.1: f32[4]) -> pred[] {
  %c.1 = f32[4]{0} parameter(0)
  ROOT %m = pred[] custom-call(%c.1)
}

%no (p: f32[4]) -> f32[4] {
  ROOT %p = f32[4]{0} parameter(0)
}

%yes (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  ROOT %r = f32[4]{0} negate(%q)
}

ENTRY %main (x: f32[4], y: pred[]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %y = pred[] parameter(1)
  %z = f32[4]{0} fusion(%x), kind=kLoop, calls=%yes
  %w = f32[4]{0} while(%z), condition=%more, body=%body
  ROOT %v = f32[4]{0} conditional(%y, %w, %w), branch_computations={%no, %yes}
}
"""
  # One fusion, three of the loop, one of the branch.
  assert hlo.count_operations(text) == 5
