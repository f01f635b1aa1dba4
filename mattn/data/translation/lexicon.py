"""The words of the English–Chinese grammar, in tables.

Nouns with their measure words, verbs with what they are said of and where,
adjectives with their nouns, places with what is there: the grammar of
:mod:`mattn.data.translation` combines what a table lists, and nothing else.

A room of the grammar that chapter 8 learns to translate.
"""

from __future__ import annotations

from typing import NamedTuple

from mattn.data.translation.numerals import MONTHS, WEEKDAYS

__all__ = [
    "ADJECTIVES",
    "CAPITAL",
    "COLOURS",
    "DRINKS",
    "EXISTS",
    "GOODS",
    "HAS_COLOUR",
    "MANY_EXIST",
    "NAMES",
    "NOUNS",
    "PEOPLE",
    "PLACES",
    "PREDICATES",
    "VERBS",
    "WITHOUT_DE",
    "Verb",
    "each",
]

NAMES = {
    "anna": "安娜", "tom": "汤姆", "mary": "玛丽", "david": "大卫",
    "peter": "彼得", "lucy": "露西",
}  # fmt: skip
CAPITAL = {"i", "beijing", "shanghai", *NAMES, *MONTHS, *WEEKDAYS} | {
    f"{day}s" for day in WEEKDAYS
}

# Plural or mass noun: one, many, Chinese, measure word.
NOUNS = {
    bare: (one, many, chinese, measure)
    for bare, one, many, chinese, measure in (
        line.split(", ")
        for line in """\
books, book, books, 书, 本
dictionaries, dictionary, dictionaries, 词典, 本
magazines, magazine, magazines, 杂志, 本
novels, novel, novels, 小说, 本
newspapers, newspaper, newspapers, 报纸, 份
letters, letter, letters, 信, 封
poems, poem, poems, 诗, 首
songs, song, songs, 歌, 首
maps, map, maps, 地图, 张
photos, photo, photos, 照片, 张
tickets, ticket, tickets, 票, 张
tables, table, tables, 桌子, 张
beds, bed, beds, 床, 张
chairs, chair, chairs, 椅子, 把
umbrellas, umbrella, umbrellas, 雨伞, 把
keys, key, keys, 钥匙, 把
knives, knife, knives, 刀, 把
pens, pen, pens, 钢笔, 支
pencils, pencil, pencils, 铅笔, 支
cats, cat, cats, 猫, 只
dogs, dog, dogs, 狗, 只
birds, bird, birds, 鸟, 只
snakes, snake, snakes, 蛇, 条
skirts, skirt, skirts, 裙子, 条
scarves, scarf, scarves, 围巾, 条
towels, towel, towels, 毛巾, 条
shirts, shirt, shirts, 衬衫, 件
coats, coat, coats, 大衣, 件
sweaters, sweater, sweaters, 毛衣, 件
cars, car, cars, 汽车, 辆
bicycles, bicycle, bicycles, 自行车, 辆
trucks, truck, trucks, 卡车, 辆
taxis, taxi, taxis, 出租车, 辆
computers, computer, computers, 电脑, 台
cameras, camera, cameras, 照相机, 台
films, film, films, 电影, 部
phones, phone, phones, 手机, 部
trees, tree, trees, 树, 棵
flowers, flower, flowers, 花, 朵
cups, cup, cups, 杯子, 个
bags, bag, bags, 包, 个
clocks, clock, clocks, 钟, 个
apples, apple, apples, 苹果, 个
oranges, orange, oranges, 橙子, 个
eggs, egg, eggs, 鸡蛋, 个
cakes, cake, cakes, 蛋糕, 个
tea, cup of, cups of, 茶, 杯
coffee, cup of, cups of, 咖啡, 杯
water, glass of, glasses of, 水, 杯
milk, glass of, glasses of, 牛奶, 杯
juice, glass of, glasses of, 果汁, 杯
beer, bottle of, bottles of, 啤酒, 瓶
wine, bottle of, bottles of, 葡萄酒, 瓶
shoes, pair of, pairs of, 鞋, 双
socks, pair of, pairs of, 袜子, 双
teachers, teacher, teachers, 老师, 位
doctors, doctor, doctors, 医生, 位
lawyers, lawyer, lawyers, 律师, 位
writers, writer, writers, 作家, 位
students, student, students, 学生, 个
children, child, children, 孩子, 个
workers, worker, workers, 工人, 名
nurses, nurse, nurses, 护士, 名
drivers, driver, drivers, 司机, 名""".splitlines()
    )
}

# What verbs, adjectives and places go with.
PEOPLE = "teachers doctors lawyers writers students children workers nurses drivers"
CLOTHES = "skirts scarves shirts coats sweaters shoes socks"
VEHICLES = "cars bicycles trucks taxis"
PRINTED = "books magazines novels newspapers letters"
PAPER = PRINTED + " dictionaries maps photos tickets"
DRINKS = "tea coffee water milk juice beer wine"
FOOD = "apples oranges eggs cakes"
ANIMALS = "cats dogs birds snakes"
FURNITURE = "tables beds chairs"
MACHINES = "computers cameras phones clocks"
TOOLS = "umbrellas keys knives pens pencils towels cups bags"
GOODS = (
    f"books dictionaries magazines novels maps {FURNITURE} umbrellas knives pens "
    f"pencils towels cups bags {CLOTHES} {MACHINES} {FOOD} {DRINKS} flowers cats "
    "dogs birds cars bicycles trucks"
)


class Verb(NamedTuple):
    """Its forms, what it is said of, where that happens, and when."""

    base: str
    third: str
    past: str
    chinese: str
    nouns: str
    places: str
    tenses: str
    """p(ast), f(uture), h(abit), s(tate)."""


TOWN = "beijing shanghai"
VERBS = [
    Verb("buy", "buys", "bought", "买", GOODS, f"shop {TOWN}", "pfh"),
    Verb("sell", "sells", "sold", "卖", GOODS, f"shop {TOWN}", "pfh"),
    Verb(
        "borrow",
        "borrows",
        "borrowed",
        "借",
        "books dictionaries magazines novels maps umbrellas pens pencils computers "
        "cameras",
        "library school office",
        "pf",
    ),
    Verb("read", "reads", "read", "看", PRINTED, "home library office park", "pfh"),
    Verb("watch", "watches", "watched", "看", "films", f"home school {TOWN}", "pfh"),
    Verb("drink", "drinks", "drank", "喝", DRINKS, "home restaurant office", "pfh"),
    Verb("eat", "eats", "ate", "吃", FOOD, "home restaurant school park", "pfh"),
    Verb(
        "write",
        "writes",
        "wrote",
        "写",
        "letters poems novels songs books",
        "home library office",
        "pfh",
    ),
    Verb("sing", "sings", "sang", "唱", "songs", "home school park", "pfh"),
    Verb(
        "draw",
        "draws",
        "drew",
        "画",
        f"{ANIMALS} trees flowers maps cars cups",
        "home school park",
        "pfh",
    ),
    Verb(
        "repair",
        "repairs",
        "repaired",
        "修",
        f"{VEHICLES} {MACHINES} tables chairs umbrellas",
        f"home school {TOWN}",
        "pfh",
    ),
    Verb(
        "wash",
        "washes",
        "washed",
        "洗",
        f"{CLOTHES} cups bags towels knives apples cars",
        "home school",
        "pfh",
    ),
    Verb(
        "see",
        "sees",
        "saw",
        "看见",
        f"{ANIMALS} {VEHICLES} {PEOPLE}",
        f"park school station hospital {TOWN}",
        "p",
    ),
    Verb(
        "find",
        "finds",
        "found",
        "找到",
        f"{TOOLS} letters photos tickets maps cameras phones cats dogs",
        "home office park school station library",
        "pf",
    ),
    Verb(
        "like",
        "likes",
        "liked",
        "喜欢",
        f"{PAPER} poems films {GOODS} {ANIMALS}",
        "",
        "s",
    ),
    Verb("need", "needs", "needed", "需要", f"{GOODS} keys tickets", "", "s"),
    Verb("know", "knows", "knew", "认识", PEOPLE, "", "s"),
    Verb("have", "has", "had", "有", f"{GOODS} keys tickets photos", "", "s"),
]

COLOURS = {
    "red": "红色", "black": "黑色", "white": "白色", "blue": "蓝色",
    "green": "绿色", "yellow": "黄色",
}  # fmt: skip
COLOURED = f"{CLOTHES} {VEHICLES} umbrellas bags cups chairs towels pens flowers phones"
HAS_COLOUR = {
    colour: (
        "",
        COLOURED + " cats dogs birds" * (colour in ("black", "white", "yellow")),
    )
    for colour in COLOURS
}
# Before a noun with 的, but see WITHOUT_DE; as a predicate with 很. None begins with
# 有, which 不 would not negate.
ADJECTIVES = {
    "beautiful": ("漂亮", f"{CLOTHES} flowers bags cups photos cars umbrellas birds"),
    "cheap": ("便宜", f"{GOODS} tickets newspapers"),
    "expensive": ("贵", f"{GOODS} tickets"),
    "exciting": ("精彩", "books novels films"),
    "important": ("重要", "letters photos maps newspapers"),
    "clean": ("干净", f"{CLOTHES} cups towels tables beds chairs"),
    "practical": ("实用", "dictionaries maps knives computers books bags"),
    "comfortable": ("舒服", "beds chairs shoes coats sweaters"),
    "cute": ("可爱", "cats dogs birds children teachers bags cups clocks photos"),
    "fresh": ("新鲜", "apples oranges eggs milk juice flowers cakes"),
    "young": ("年轻", "teachers doctors lawyers writers workers nurses drivers"),
    "friendly": (
        "友好",
        "teachers doctors lawyers students children workers nurses drivers",
    ),
    "clever": ("聪明", "students children dogs lawyers"),
}
# 年轻司机 and 黑色手机 need no 的, but a noun of one character does: 黑色的猫.
WITHOUT_DE = {*COLOURS, "fresh", "young"}
PREDICATES = {
    "new": ("新", f"{CLOTHES} {VEHICLES} {MACHINES} {FURNITURE} umbrellas bags"),
    "heavy": ("重", f"{FURNITURE} computers bags dictionaries bicycles"),
    "big": ("大", f"{FURNITURE} umbrellas bags trees cakes dogs trucks"),
}

PLACES = {
    "home": (("at", "home"), "家"),
    "school": (("at", "the", "school"), "学校"),
    "library": (("in", "the", "library"), "图书馆"),
    "shop": (("in", "the", "shop"), "商店"),
    "park": (("in", "the", "park"), "公园"),
    "office": (("in", "the", "office"), "办公室"),
    "hospital": (("in", "the", "hospital"), "医院"),
    "restaurant": (("in", "the", "restaurant"), "餐厅"),
    "station": (("at", "the", "station"), "车站"),
    "kitchen": (("in", "the", "kitchen"), "厨房"),
    "beijing": (("in", "beijing"), "北京"),
    "shanghai": (("in", "shanghai"), "上海"),
}
# Where things are: English, Chinese, what, and whether there can be very many.
EXISTS = [
    (("on", "the", "table"), "桌子上", f"{PAPER} keys pens pencils cups bags {FOOD}"),
    (("on", "the", "bed"), "床上", f"{CLOTHES} books bags cats"),
    (("on", "the", "wall"), "墙上", "photos maps clocks"),
    (("under", "the", "table"), "桌子下面", "cats dogs bags shoes"),
    (("at", "home"), "家里", f"cats dogs books computers chairs beds {DRINKS}"),
    (("in", "the", "kitchen"), "厨房里", f"cups knives {FOOD} {DRINKS} chairs"),
    (("in", "the", "office"), "办公室里", "computers chairs tables phones lawyers"),
    (("in", "the", "restaurant"), "餐厅里", "tables chairs children workers"),
]
MANY_EXIST = [
    (
        ("in", "the", "library"),
        "图书馆里",
        "books dictionaries magazines novels newspapers maps tables chairs computers "
        "students",
    ),
    (
        ("at", "the", "school"),
        "学校里",
        "students teachers tables chairs computers books trees bicycles",
    ),
    (("in", "the", "shop"), "商店里", GOODS),
    (("in", "the", "park"), "公园里", "trees flowers birds dogs children chairs"),
    (("in", "the", "hospital"), "医院里", "doctors nurses beds computers workers"),
    (("at", "the", "station"), "车站里", "taxis bicycles workers drivers children"),
    (("in", "beijing"), "北京", f"{VEHICLES} {PEOPLE}"),
    (("in", "shanghai"), "上海", f"{VEHICLES} {PEOPLE}"),
]


def each(words: str) -> list[str]:
    """The words, each once: lists of nouns overlap."""
    return list(dict.fromkeys(words.split()))
