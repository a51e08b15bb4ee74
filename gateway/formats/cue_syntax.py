"""How well a text may be parted between two words: after a sentence best, after an article worst.

Pure. Small word lists instead of a parser: they know where a break hurts most.
"""

from collections.abc import Sequence
from itertools import pairwise

from gateway.formats.cue_words import OPENING, Unit
from protocol.scripts import is_unspaced

SENTENCE = 0.0
CLAUSE = 0.5
PLAIN = 1.5
CLINGING = 3.0
"""After a word that belongs to the next one."""

_SENTENCE_END = frozenset(".!?。！？…．؟।｡")
_CLAUSE_END = frozenset(",;:，；：、､،؛–—")
_QUOTES = "\"'’”»“)]}）」』】》〉"

# Words that begin a phrase: a break before them is good, after them bad.
_OPENERS = {
    "English": "and or but nor so because although though while when where which who that if "
    "unless until since than as of in on at by for with from to into about after "
    "before over under through between against without during",
    "German": "und oder aber denn sondern dass weil obwohl wenn als ob während bevor "
    "nachdem damit der die das wo wie in im an am auf aus bei mit nach von vom zu "
    "zum zur für durch über unter vor hinter neben zwischen ohne gegen um bis "
    "seit",
    "French": "et ou mais donc or ni car que qui dont où quand lorsque parce puisque comme "
    "si de du des à au aux en dans sur sous avec sans pour par chez vers entre",
    "Spanish": "y e o u pero sino porque que quien donde cuando como si aunque mientras de "
    "del a al en con sin por para sobre entre desde hasta hacia",
    "Italian": "e o ma però perché che chi cui dove quando come se mentre di del della dei a "
    "al alla in nel nella con su sul sulla per tra fra da dal dalla senza",
    "Portuguese": "e ou mas porque que quem onde quando como se embora enquanto de do da dos "
    "das a ao à em no na nos nas com sem por pelo pela para sobre entre até",
    "Dutch": "en of maar want dat omdat als toen wanneer terwijl die wie waar van in op "
    "aan met voor door over onder tussen zonder tegen naar uit bij om tot",
    "Russian": "и или но а что чтобы потому если когда где который как в во на с со к о об "
    "от из у по за под над для без до при через",
}
# Articles, possessives, subject pronouns, auxiliaries, negations: a break after them is bad.
_CLINGERS = {
    "English": "a an the my your his her its our their this these those some any no every "
    "each i you he she it we they is are was were am be been has have had do does "
    "did will would can could shall should may might must not don't doesn't "
    "didn't won't can't very more most mr mrs ms dr st",
    "German": "ein eine einen einem einer eines den dem des mein dein sein ihr unser euer "
    "kein keine keinen diese dieser dieses jede jeder jedes ich du er sie es wir "
    "nicht sehr ist sind war waren hat haben wird werden kann dr prof",
    "French": "un une le la les l mon ma mes ton ta tes son sa ses notre nos votre vos leur "
    "leurs ce cet cette ces je tu il elle on nous vous ils elles ne se est sont a "
    "ont très plus m mme",
    "Spanish": "un una unos unas el la los las mi mis tu tus su sus este esta estos estas "
    "ese esa yo tú él ella nosotros ellos no se me te le lo es son ha han muy más "
    "sr sra",
    "Italian": "un uno una il lo la i gli le mio mia tuo tua suo sua nostro questo questa "
    "quel io tu lui lei noi voi loro non si mi ti ci vi è sono ha hanno molto più",
    "Portuguese": "um uma uns umas o os as meu minha teu tua seu sua nosso este esta esse essa "
    "eu tu ele ela nós eles não é são foi tem têm muito mais sr sra",
    "Dutch": "een de het mijn jouw zijn haar ons onze hun dit deze geen elk ik jij hij zij "
    "ze wij we niet is was heeft hebben wordt kan zeer",
    "Russian": "не ни я ты он она мы вы они мой твой его её наш ваш их этот эта это эти "
    "очень более",
}
_ABBREVIATIONS = (
    "mr. mrs. ms. dr. prof. st. vs. nr. no. ca. bzw. z.b. d.h. e.g. i.e. sr. sra. mme. m."
)
# Particles close what stands before them, so they never begin a line well.
_PARTICLES = {
    "Japanese": frozenset("はがをにでともへのかねよ"),
    "Chinese": frozenset("的地得了着过過吗嗎呢吧啊們们"),
    "Cantonese": frozenset("嘅咗緊啦喎呀㗎們的地得了着過吧啊"),
}

_PREFIXES = frozenset("おご御")
"""Of Japanese: what makes the word behind them polite."""


class Syntax:
    """What is known of one language; an unknown one is parted by punctuation alone."""

    def __init__(self, language: str | None) -> None:
        name = language or ""
        self._openers = frozenset(_OPENERS.get(name, "").split())
        self._clingers = frozenset(_CLINGERS.get(name, "").split()) | self._openers
        self._writes_kana = name == "Japanese"
        self._particles = _PARTICLES.get(name, frozenset())
        self._abbreviations = frozenset(_ABBREVIATIONS.split())
        self._has_names_in_capitals = name != "German"

    def break_costs(self, units: Sequence[Unit]) -> list[float]:
        """The cost of ending a line after each unit; after the last one nothing."""
        costs = [self._cost(left, right) for left, right in pairwise(units)]
        return [*costs, SENTENCE] if units else []

    def _cost(self, left: Unit, right: Unit) -> float:
        text = left.text
        last = text[-1]
        if last in _QUOTES:
            last = text.rstrip(_QUOTES)[-1:]
        is_unspaced_joint = is_unspaced(last or " ") or is_unspaced(right.text[0])
        if not (right.follows_space or is_unspaced_joint):
            return CLINGING  # inside a word that is longer than a line
        if last in _SENTENCE_END and last:
            return SENTENCE if self._ends_sentence(text, right.text) else CLINGING
        if last in _CLAUSE_END and last:
            return CLAUSE
        if is_unspaced_joint:
            return self._cost_between_characters(left, right)
        return self._cost_between_words(text, right.text)

    def _ends_sentence(self, text: str, following: str) -> bool:
        if not text.endswith("."):
            return True
        is_initial = len(text) == 2 and text[0].isupper()
        return not (is_initial or following[0].islower() or text.lower() in self._abbreviations)

    def _cost_between_words(self, text: str, following: str) -> float:
        word = text.strip("\"'“”„«»()[]¿¡").lower()
        if word in self._clingers:
            return CLINGING
        if following.strip(".,;:!?\"'“”„«»()").lower() in self._openers:
            return PLAIN - 0.6
        if word[-1:].isdecimal():
            return PLAIN + 0.7
        if self._has_names_in_capitals and _is_capitalised(text) and _is_capitalised(following):
            return PLAIN + 0.7
        return PLAIN

    def _cost_between_characters(self, left: Unit, right: Unit) -> float:
        if right.follows_space:
            return CLAUSE
        before, after = left.text[-1], right.text[0]
        if after in self._particles and len(right.text) == 1:
            return CLINGING
        if after in OPENING:
            return PLAIN - 0.5
        if self._writes_kana:
            return _cost_between_kana(before, after, before in self._particles)
        return PLAIN - 0.3 if before in self._particles else PLAIN + 0.5


def _cost_between_kana(before: str, after: str, is_particle: bool) -> float:
    """Phrases of Japanese mostly begin with another script than Hiragana and end with it."""
    if _is_hiragana(after):
        # Particles also occur inside words, these three least.
        return PLAIN if before in "はがを" else CLINGING - 0.4
    if before in _PREFIXES:
        return CLINGING
    if _is_hiragana(before):
        return PLAIN - 0.5 if is_particle else PLAIN
    return CLINGING if _is_katakana(before) == _is_katakana(after) else PLAIN + 0.5


def _is_capitalised(word: str) -> bool:
    return len(word) > 2 and word[0].isupper()


def _is_hiragana(character: str) -> bool:
    return "\u3040" <= character <= "\u309f"


def _is_katakana(character: str) -> bool:
    return "\u30a0" <= character <= "\u30ff"
