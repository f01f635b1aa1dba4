"""The synchronous grammar: numerals, measure words and sentences by hand, splits."""

import calendar
import collections
import itertools
import os
import re
import subprocess
import sys

import pytest
import torch

from mattn.data import split_pairs, translation_grammar
from mattn.data.pairs import END, PAD, START, UNKNOWN, BytePairs, Words, pair_batches
from mattn.data.translation import (
    LONGEST_TRAINED,
    english_words,
    is_held_out,
    split_of,
)
from mattn.data.translation.numerals import (
    chinese_number,
    english_number,
    english_ordinal,
    english_year,
)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def grammar():
    return translation_grammar()


@pytest.fixture(scope="module")
def sample(grammar):
    return list(itertools.islice(grammar.sample(generator=draw(3)), 2500))


@pytest.fixture(scope="module")
def splits():
    sizes = {"train": 3000, "valid": 100, "new": 200, "longer": 60}
    return split_pairs(sizes, generator=draw(1))


# ------------------------------------------------------------------ numerals

NUMERALS = """
0 零  1 一  2 二  3 三  9 九  10 十  11 十一  12 十二  19 十九  20 二十
21 二十一  22 二十二  30 三十  99 九十九  100 一百  101 一百零一  102 一百零二
110 一百一十  111 一百一十一  112 一百一十二  115 一百一十五  120 一百二十
200 二百  202 二百零二  210 二百一十  222 二百二十二  305 三百零五  999 九百九十九
1000 一千  1001 一千零一  1010 一千零一十  1011 一千零一十一  1100 一千一百
1101 一千一百零一  1110 一千一百一十  2000 两千  2002 两千零二  2020 两千零二十
2200 两千二百  2222 两千二百二十二  5050 五千零五十  8008 八千零八  9900 九千九百
10000 一万  10001 一万零一  10010 一万零一十  10050 一万零五十  10100 一万零一百
10101 一万零一百零一  11000 一万一千  11011 一万一千零一十一  12000 一万二千
12345 一万二千三百四十五  20000 两万  20002 两万零二  20020 两万零二十
20200 两万零二百  22000 两万二千  22222 两万二千二百二十二  30500 三万零五百
50505 五万零五百零五  60006 六万零六  70070 七万零七十  90909 九万零九百零九
99999 九万九千九百九十九
"""


@pytest.mark.parametrize(("n", "chinese"), re.findall(r"(\d+) (\S+)", NUMERALS))
def test_numerals_by_hand(n, chinese):
    assert chinese_number(int(n)) == chinese


def read_chinese(text):
    """An independent reader: a sum of digit times unit."""
    value = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2}
    if "万" in text:
        high, low = text.split("万")
        return 10_000 * read_chinese(high) + (read_chinese(low) if low else 0)
    total, digit = 0, None
    for c in text:
        if c in value:
            digit = value[c]
        else:
            total += (1 if digit is None else digit) * {
                "千": 1000,
                "百": 100,
                "十": 10,
            }[c]
            digit = None
    return total + (digit or 0)


SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
]
TENS = [
    *("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
]


def read_english(words):
    small = dict(zip(SMALL, range(20), strict=True))
    tens = dict(zip(TENS, range(20, 100, 10), strict=True))
    total = part = 0
    for word in words:
        if word == "thousand":
            total, part = 1000 * part, 0
        elif word == "hundred":
            part *= 100
        elif word in tens:
            part += tens[word]
        elif word != "and":
            part += small[word]
    return total + part


def test_every_numeral_comes_back_and_keeps_the_conventions():
    for n in range(100_000):
        chinese, english = chinese_number(n), english_number(n)
        assert read_chinese(chinese) == n
        assert read_english(english) == n
        assert "零零" not in chinese
        assert n == 0 or not chinese.endswith("零")
        assert not re.search("两[百十]|.两", chinese)
        assert not re.match("二[千万]|一十", chinese)
        # A zero is said exactly where one is skipped between two digits.
        gaps = len(re.findall("[1-9]0+(?=[1-9])", str(n)))
        assert n == 0 or chinese.count("零") == gaps


def test_two_before_a_measure_word():
    said = {n: chinese_number(n, before="measure") for n in (2, 12, 20, 22, 200, 2000)}
    assert list(said.values()) == ["两", "十二", "二十", "二十二", "二百", "两千"]


def test_numbers_outside_are_refused():
    for n in (-1, 100_000):
        with pytest.raises(ValueError, match="99,999"):
            chinese_number(n)
    with pytest.raises(ValueError, match="10 to 99"):
        english_year(2005)


def test_ordinals_and_years():
    days = [
        " ".join(english_ordinal(n)) for n in (1, 2, 3, 5, 8, 9, 12, 20, 21, 30, 31)
    ]
    assert days == [
        *("first", "second", "third", "fifth", "eighth", "ninth", "twelfth"),
        *("twentieth", "twenty first", "thirtieth", "thirty first"),
    ]
    assert " ".join(english_year(1984)) == "nineteen eighty four"


# ------------------------------------------------------------------ the grammar

MEASURES = {
    "本": "book dictionary magazine novel",
    "份": "newspaper",
    "封": "letter",
    "首": "poem song",
    "张": "map photo ticket table bed",
    "把": "chair umbrella key knife",
    "支": "pen pencil",
    "只": "cat dog bird",
    "条": "snake skirt scarf towel",
    "件": "shirt coat sweater",
    "辆": "car bicycle truck taxi",
    "台": "computer camera",
    "部": "film phone",
    "棵": "tree",
    "朵": "flower",
    "个": "cup bag clock apple orange egg cake student child",
    "位": "teacher doctor lawyer writer",
    "名": "worker nurse driver",
}


def test_measure_words_by_hand(grammar):
    said = {
        rule.english[0]: rule.measure[0]
        for symbol, options in grammar.rules.items()
        if symbol.startswith("ONE:")
        for rule in options
        if rule.measure
    }
    assert said == {n: m for m, nouns in MEASURES.items() for n in nouns.split()}


SENTENCES = """
I read twelve books yesterday. | 我昨天看了十二本书。
She bought a book in the shop yesterday. | 她昨天在商店买了一本书。
Tom drank two cups of tea at home yesterday morning. | 汤姆昨天上午在家喝了两杯茶。
He ate an apple at seven o'clock yesterday morning. | none
He washed a cup at nine o'clock yesterday morning. | 他昨天上午九点洗了一个杯子。
This young driver bought a black phone. | 这名年轻司机买了一部黑色手机。
She saw two white cats in the park. | 她在公园看见了两只白色的猫。
He ate an apple at two o'clock yesterday afternoon. | 他昨天下午两点吃了一个苹果。
We saw three cats in the park on Sunday. | 我们星期日在公园看见了三只猫。
Mary sold this red car last year. | 玛丽去年卖了这辆红色汽车。
She found those two keys at the station. | 她在车站找到了那两把钥匙。
The doctor who knows Lucy washed these shirts. | 认识露西的医生洗了这些衬衫。
He repaired the bicycle that Anna sold. | 他修了安娜卖的自行车。
I did not buy any books in Beijing last week. | 我上周没有在北京买书。
They did not drink any coffee yesterday evening. | 他们昨天晚上没有喝咖啡。
Did she buy this book yesterday? | 她昨天买了这本书吗？
Did they watch two films at home? | 他们在家看了两部电影吗？
He will buy a pair of shoes tomorrow. | 他明天会买一双鞋。
She will not sell those chairs next month. | 她下个月不会卖那些椅子。
Will David find this ticket tomorrow evening? | 大卫明天晚上会找到这张票吗？
Anna drinks two cups of coffee every day. | 安娜每天喝两杯咖啡。
They read newspapers in the library on Saturdays. | 他们每个星期六在图书馆看报纸。
He does not drink beer at home. | 他不在家喝啤酒。
We do not watch films on Mondays. | 我们星期一不看电影。
Does Peter eat eggs every day? | 彼得每天吃鸡蛋吗？
Do they sing songs in the park? | 他们在公园唱歌吗？
She likes cats. | 她喜欢猫。
I do not like this film. | 我不喜欢这部电影。
Does he like dogs? | 他喜欢狗吗？
They need two hundred and two chairs. | none
They need twenty-two chairs. | 他们需要二十二把椅子。
She does not need any umbrellas. | 她不需要雨伞。
Do they know this teacher? | 他们认识这位老师吗？
He has two dogs. | 他有两只狗。
She does not have any knives. | 她没有刀。
Does Mary have any bicycles? | 玛丽有自行车吗？
Tom likes the book that she bought yesterday. | 汤姆喜欢她昨天买的书。
The books that we sold in the shop last year are cheap. | 我们去年在商店卖的书很便宜。
The film that she watched is exciting. | 她看的电影很精彩。
These maps are not practical. | 这些地图不实用。
An important letter. | none
This coat is expensive. | 这件大衣很贵。
He bought a bottle of expensive wine. | 他买了一瓶贵的葡萄酒。
These cute children like letters. | 这些可爱的孩子喜欢信。
Are these flowers fresh? | 这些花新鲜吗？
This bag is black. | 这个包是黑色的。
Those cups are not blue. | 那些杯子不是蓝色的。
Is that pair of socks white? | 那双袜子是白色的吗？
She is a doctor. | 她是医生。
Is he a driver? | 他是司机吗？
They are not students. | 他们不是学生。
The price of this car is twenty thousand and fifty yuan. | 这辆汽车的价格是两万零五十元。
The price of that pen is two yuan. | 那支钢笔的价格是两元。
Is the price of this bed two thousand two hundred yuan? | 这张床的价格是两千二百元吗？
There is a cat under the table. | 桌子下面有一只猫。
There are no clocks on the wall. | 墙上没有钟。
Are there any trees in the park? | 公园里有树吗？
There is no milk in the kitchen. | 厨房里没有牛奶。
There are twelve thousand and ten books in the library. | 图书馆里有一万二千零一十本书。
He wrote that letter on the second of May nineteen eighty-four. | 他一九八四年五月二日写了那封信。
She sang this song on Sunday, the twelfth of July twenty twenty. | 她二〇二〇年七月十二日星期日唱了这首歌。
"""  # noqa: E501
TABLE = [line.split(" | ") for line in SENTENCES.strip().splitlines()]


@pytest.mark.parametrize(("english", "chinese"), TABLE)
def test_sentences_by_hand(grammar, english, chinese):
    if chinese == "none":
        with pytest.raises(ValueError, match="grammar"):
            grammar.pair(english)
    else:
        pair = grammar.pair(english)
        assert pair.translation == chinese
        assert pair.text == english


def test_how_much_there_is(grammar):
    assert grammar.n_derivations >= 10**8
    words = [w for w in grammar.english_vocabulary if w.isalpha()]
    assert len(words) >= 150


def test_an_english_sentence_has_one_derivation(grammar, sample):
    """So derivations are sentences, and each has one right translation."""
    for pair in sample[:50]:
        (only,) = grammar.parses(pair.english)
        assert grammar.pair(pair.text).translation == pair.translation
        assert len(list(only.walk())) == len(list(pair.derivation.walk()))
    by_english = collections.defaultdict(set)
    for pair in sample:
        by_english[pair.english].add(pair.chinese)
    assert all(len(chinese) == 1 for chinese in by_english.values())


def test_text_and_words_agree(sample, grammar):
    assert set(itertools.chain(*(p.english for p in sample))) <= set(
        grammar.english_vocabulary
    )
    assert set(itertools.chain(*(p.chinese for p in sample))) <= set(
        grammar.chinese_vocabulary
    )
    for pair in sample[:500]:
        spoken = [word for word in english_words(pair.text) if word != ","]
        assert spoken == [word for word in pair.english if word != ","]


def test_alignment_joins_what_means_the_same(grammar):
    pair = grammar.pair("Tom likes the book that she bought yesterday.")
    joined = {(pair.english[i], pair.chinese[j]) for i, j in pair.alignment}
    assert joined == {
        ("tom", "汤姆"),
        ("likes", "喜欢"),
        ("book", "书"),
        ("that", "的"),
        ("she", "她"),
        ("bought", "买"),
        ("yesterday", "昨天"),
        (".", "。"),
    }
    assert pair.depth == 1
    nested = "The nurses that the driver who knows Tom saw are friendly."
    assert grammar.pair(nested).depth == 2
    assert grammar.pair("The driver who knows Tom likes cats.").depth == 1
    assert pair.patterns == {("verb", "like", "books"), ("verb", "buy", "books")}
    pair = grammar.pair("She drank two glasses of fresh milk.")
    assert pair.patterns == {
        ("verb", "drink", "milk"),
        ("adjective", "fresh", "milk"),
        ("numeral", "两", "milk"),
    }
    joined = {(pair.english[i], pair.chinese[j]) for i, j in pair.alignment}
    assert {
        ("two", "两"),
        ("glasses", "杯"),
        ("fresh", "新鲜"),
        ("milk", "牛奶"),
    } <= joined


def test_rules_of_thumb_hold_in_every_sentence(sample):
    """What a native speaker would object to never occurs."""
    for pair in sample:
        zh = pair.translation
        assert not re.search(
            "没有.*了|不.*了|会.*了|的的|了了|两十|两百|这些[本只张件](?!子)", zh
        )
        assert "不有" not in zh  # so no adjective may begin with 有
        assert "没有是" not in zh
        assert ("吗？" in zh) == (pair.text[-1] == "?")
        assert zh[-1] in "。？"


def test_weekdays_belong_to_their_dates(sample):
    found = 0
    pattern = r"(\w+)年(\w+)月(\w+)日星期(\w)"
    for pair in sample:
        for year, month, day, weekday in re.findall(pattern, pair.translation):
            year = re.search("[〇一二三四五六七八九]{4}$", year)[0]
            number = int("".join(str("〇一二三四五六七八九".index(c)) for c in year))
            found += 1
            assert (
                weekday
                == (
                    "一二三四五六日"[
                        calendar.weekday(number, read_chinese(month), read_chinese(day))
                    ]
                )
            )
    assert found > 5


def test_the_same_seed_gives_the_same_pairs_in_another_process(grammar):
    code = (
        "import itertools, torch, zlib\n"
        "from mattn.data import translation_grammar\n"
        "s = translation_grammar().sample(generator=torch.Generator().manual_seed(7))\n"
        "t = ''.join(p.text + p.translation for p in itertools.islice(s, 200))\n"
        "print(zlib.crc32(t.encode()))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_bad_sentences_are_named(grammar):
    with pytest.raises(ValueError, match="empty"):
        grammar.pair("  ")
    with pytest.raises(ValueError, match="zebra"):
        grammar.pair("She bought a zebra.")
    with pytest.raises(ValueError, match="gekauft"):
        grammar.pair("Sie hat gekauft.")
    with pytest.raises(ValueError, match="not a sentence"):
        grammar.pair("Bought she book.")


# ------------------------------------------------------------------ the splits


def test_splits_keep_their_rule(splits):
    for name, pairs in splits.items():
        assert all(split_of(pair) == name for pair in pairs)
    for name in ("train", "valid"):
        assert not any(is_held_out(p) for pair in splits[name] for p in pair.patterns)
    assert max(len(p.english) for p in splits["train"]) == LONGEST_TRAINED
    assert min(len(p.english) for p in splits["longer"]) > LONGEST_TRAINED
    assert max(p.depth for pairs in splits.values() for p in pairs) == 1
    assert not any(is_held_out(p) for pair in splits["longer"] for p in pair.patterns)


def test_no_pair_leaks(splits):
    english = [pair.english for pairs in splits.values() for pair in pairs]
    assert len(set(english)) == len(english)
    trained = set().union(*(p.patterns for p in splits["train"]))
    kinds = collections.Counter()
    for pair in splits["new"]:
        unseen = {p for p in pair.patterns if is_held_out(p)}
        assert unseen
        assert not unseen & trained
        kinds.update(kind for kind, _, _ in unseen)
    assert min(kinds["verb"], kinds["adjective"], kinds["numeral"]) > 20


def test_the_parts_of_new_patterns_are_trained(splits):
    """Only the combination is new: every word, and each noun with its measure."""
    trained = splits["train"]
    for side in ("english", "chinese"):
        known = set().union(*(getattr(p, side) for p in trained))
        needed = set().union(*(getattr(p, side) for p in splits["new"]))
        assert needed <= known
    counted = collections.defaultdict(set)
    for pair in trained:
        for kind, word, noun in pair.patterns:
            if kind == "numeral":
                counted[noun].add(word)
    for pair in splits["new"]:
        for kind, _, noun in pair.patterns:
            if kind == "numeral":
                assert counted[noun]  # all of them other numerals


def test_a_held_out_word_keeps_other_nouns_in_training(splits):
    """Else "new" would ask for what no sentence could have taught."""
    nouns = collections.defaultdict(set)
    for pair in splits["train"]:
        for kind, word, noun in pair.patterns:
            nouns[kind, word].add(noun)
    for pair in splits["new"]:
        for kind, word, _ in filter(is_held_out, pair.patterns):
            assert kind == "numeral" or len(nouns[kind, word]) >= 3, (kind, word)


# ------------------------------------------------------------------ tokens, batches


def test_words_there_and_back():
    words = Words(["a", "b", "a", "c"])
    assert len(words) == 7
    tokens = words.encode(["c", "a"])
    assert words.decode([START, *tokens, END, *tokens, PAD]) == ["c", "a"]
    with pytest.raises(ValueError, match=r"\['x'\]"):
        words.encode(["a", "x"])
    with pytest.raises(ValueError, match="list of str"):
        words.encode("abc")
    assert words.encode(["a", "x"], mark_unknown=True)[1] == UNKNOWN


def test_byte_pairs_there_and_back():
    texts = ["A dog isn't here, is it?", "Two dogs (red) run.", "Ein Hund läuft."] * 9
    joint = BytePairs(texts, 120)
    assert len(joint) <= 120
    for text in texts:
        assert joint.decode([*joint.encode(text), END, 5]) == text
    again = BytePairs(texts, 120)
    assert again.encode(texts[0]) == joint.encode(texts[0])
    with pytest.raises(ValueError, match="with words"):
        joint.encode(" ")


def test_batches_hold_every_pair_once_a_pass_and_stay_in_their_budget():
    rows = draw(2)
    sizes = torch.randint(1, 20, (97, 2), generator=rows).tolist()
    pairs = [([4 + i] * n, [4 + i] * m) for i, (n, m) in enumerate(sizes)]
    seen = collections.Counter()
    waste = total = 0
    for source, target, lengths in pair_batches(pairs, n_tokens=120, generator=rows):
        assert max(source.numel(), target.numel()) <= 120
        assert torch.equal((source != PAD).sum(dim=1), lengths)
        assert (target[:, 0] == START).all()
        assert ((target == END).sum(dim=1) == 1).all()
        seen.update((source[:, 0] - 4).tolist())
        waste += int((source == PAD).sum() + (target == PAD).sum())
        total += source.numel() + target.numel()
        if sum(seen.values()) >= 97:
            break
    assert sorted(seen) == list(range(97))
    assert set(seen.values()) == {1}
    assert waste / total < 0.45
    with pytest.raises(ValueError, match="at least one source token"):
        next(pair_batches([([], [1])], n_tokens=9, generator=rows))
