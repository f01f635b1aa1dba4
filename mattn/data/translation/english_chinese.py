"""The book's grammar, put together: words first, then what is made of them."""

from __future__ import annotations

import functools

from mattn.data.translation.grammar import Rules, TranslationGrammar
from mattn.data.translation.lexicon import (
    ADJECTIVES,
    COLOURS,
    NAMES,
    NOUNS,
    PLACES,
    PREDICATES,
    VERBS,
)
from mattn.data.translation.phrases import (
    add_noun_phrases,
    add_objects,
    add_relative_clauses,
    add_subjects,
)
from mattn.data.translation.sentences import add_sentences
from mattn.data.translation.times import add_numbers_and_times
from mattn.inputs import whole_number

__all__ = ["translation_grammar"]

# Symbol, English, Chinese; a side may be empty.
WORDS = """\
A, a, 一
THIS, this, 这
THAT, that, 那
THESE, these, 这些
THOSE, those, 那些
ANY, any,
NOT-PAST, did not, 没有
NOT-DO, do not, 不
NOT-DOES, does not, 不
NO-DO, do not, 没
NO-DOES, does not, 没
WILL, will, 会
WILL-NOT, will not, 不 会
DID, did,
DO, do,
DOES, does,
IS:is, is, 很
IS:are, are, 很
IS-NOT:is, is not, 不
IS-NOT:are, are not, 不
IS-IT:is, is,
IS-IT:are, are,
IS-是:is, is, 是
IS-是:are, are, 是
IS-不是:is, is not, 不 是
IS-不是:are, are not, 不 是
THERE-IS, there is, 有
THERE-ARE, there are, 有
THERE-NO:True, there is no, 没有
THERE-NO:False, there are no, 没有
ARE-THERE:True, is there any, 有
ARE-THERE:False, are there any, 有
THIS-N, these, 这
THAT-N, those, 那
PRICE, price, 价格
YUAN, yuan, 元
WHO-he, he, 他
WHO-she, she, 她
WHO-they, they, 他们
WHO-we, we, 我们
WHO-i, i, 我
REL, that, 的
REL-WHO, who, 的
STOP, ., 。
ASK, ?, 吗 ？"""


@functools.cache
def translation_grammar(*, depth: int = 2) -> TranslationGrammar:
    """The book's English–Chinese grammar, with up to ``depth`` relative clauses
    inside one another.
    """
    if whole_number(depth, "depth", least=0) > 2:
        raise ValueError(f"translation_grammar: expected depth 0, 1 or 2; got {depth}.")
    rules = Rules()
    _add_words(rules)
    add_numbers_and_times(rules)
    add_noun_phrases(rules)
    for d in range(depth + 1):
        add_subjects(rules, d)
        add_relative_clauses(rules, d)
        add_objects(rules, d)
    add_sentences(rules, depth)
    return TranslationGrammar(rules)


def _add_words(rules: Rules) -> None:
    """The leaves: every word with its translation, a noun with its measure word."""
    for line in WORDS.splitlines():
        symbol, english, chinese = map(str.strip, line.split(","))
        rules.add(symbol, english, chinese)
    for english, chinese in {
        **COLOURS,
        **{k: v[0] for k, v in (ADJECTIVES | PREDICATES).items()},
    }.items():
        rules.add(f"ADJ:{english}", english, chinese)
    for verb in VERBS:
        for form in {verb.base, verb.third, verb.past}:
            if f"V:{form}" not in rules:
                rules.add(f"V:{form}", form, verb.chinese)
    for name, chinese in NAMES.items():
        rules.add(f"WHO-{name}", name, chinese)
    for place, (words, chinese) in PLACES.items():
        rules.add(f"IN:{place}", " ".join(words), f"在 {chinese}")
    for bare, (one, many, chinese, measure) in NOUNS.items():
        if one.endswith(" of"):
            rules.add(f"NOUN:{bare}", bare, chinese)
            rules[f"ONE:{one[:-3]}:{measure}"] = []
            rules.add(f"ONE:{one[:-3]}:{measure}", one, measure)
            rules[f"MANY:{many[:-3]}:{measure}"] = []
            rules.add(f"MANY:{many[:-3]}:{measure}", many, measure)
        else:
            rules.add(f"ONE:{bare}", one, chinese, measure=measure)
            rules.add(f"NOUN:{bare}", many, chinese, measure=measure)
