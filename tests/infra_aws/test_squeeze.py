"""JavaScript of ours gets smaller and stays the same program."""

from __future__ import annotations

import pytest
import quickjs

from infra.aws.squeeze import squeezed, with_features

PROGRAM = r"""
// A comment with 'quotes' and /slashes/.
const WORDS = ['a // b', 'it\'s', "`"]; // another
const TEXT = `two
  lines // kept`;
function ratio(a, b) {
  const half = a / 2;   // a division, not a regex
  if (/^[/'"]+$/.test(b)) return /x y/.test(b);
  return half + + b;
}
let n = 0;
n++;
const found = [ratio(6, 1), ratio(1, '/'), WORDS.join('|'), TEXT, typeof n, n];
JSON.stringify(found)
"""


def test_the_program_says_the_same():
    small = squeezed(PROGRAM.replace('"`"', "'`'"))
    assert quickjs.Context().eval(small) == quickjs.Context().eval(PROGRAM)
    assert len(small) < 0.75 * len(PROGRAM)
    assert "// a division" not in small
    assert "two\n  lines // kept" in small
    assert "half+ +b" in small


def test_lines_stay_lines_and_words_stay_apart():
    assert squeezed("function f( a ) {\n  return typeof a;\n}\n") == "function f(a){\nreturn typeof a;\n}\n"
    assert squeezed("import cf from 'cloudfront';\n") == "import cf from 'cloudfront';\n"


def test_a_line_and_a_block_stay_only_with_their_feature():
    source = "always();\nonce(); //? red\n//? blue {\nb1();\nb2(); //? red\n//? }\nend();\n"
    assert with_features(source, frozenset()) == "always();\nend();\n"
    assert with_features(source, {"red"}) == "always();\nonce();\nend();\n"
    assert with_features(source, {"blue"}) == "always();\nb1();\nend();\n"
    assert with_features(source, {"red", "blue"}) == "always();\nonce();\nb1();\nb2();\nend();\n"


def test_blocks_nest():
    source = "//? a {\n1;\n//? b {\n2;\n//? }\n3;\n//? }\n4;\n"
    assert with_features(source, {"b"}) == "4;\n"
    assert with_features(source, {"a"}) == "1;\n3;\n4;\n"


@pytest.mark.parametrize("wrong", ["//? a {\n1;\n", "//? }\n"])
def test_a_block_without_its_other_end_is_refused(wrong):
    with pytest.raises(ValueError, match="block"):
        with_features(wrong, {"a"})
