"""English to Chinese by a synchronous grammar: one right answer a sentence.

Every rule writes both languages at once, each in its own order; a *leaf* says
which words mean each other. So each pair comes with its derivation and its
alignment, and there is nothing to guess in scoring a translation. Used in
chapter 8.

Conventions, where Chinese leaves a choice:

* numbers and dates as in :mod:`mattn.data.translation.numerals`;
* subject, time, negation or 会, place, verb, object: 我昨天没有在商店买这本书;
* a noun has one measure word: 一本书, 这本书, 两本书; not after 这些 and 那些;
* an event that happened has 了 after the verb; 没有 takes its place when it did
  not, and a relative clause has none; habits, states and the future take 不;
* 是 is negated by 不, 有 by 没有; an adjective as predicate has 很, but neither
  after 不 nor before 吗, and a colour is 是红色的;
* an adjective or a relative clause stands before its noun, with 的; a colour, 新鲜
  and 年轻 go without it before a noun of two characters or more: 黑色手机, 黑色的猫.
  A noun has one of the two, not both;
* "on Mondays" is 每个星期一, but 星期一 where the habit is denied;
* "morning" is 上午, from nine o'clock on, "they" 他们, Sunday 星期日, the day of a
  month 日.
"""

from mattn.data.translation.english_chinese import translation_grammar
from mattn.data.translation.grammar import Node, Pair, Rule, TranslationGrammar
from mattn.data.translation.splits import (
    LONGEST_TRAINED,
    is_held_out,
    split_of,
    split_pairs,
)
from mattn.data.translation.written import english_text, english_words

__all__ = [
    "LONGEST_TRAINED",
    "Node",
    "Pair",
    "Rule",
    "TranslationGrammar",
    "english_text",
    "english_words",
    "is_held_out",
    "split_of",
    "split_pairs",
    "translation_grammar",
]
