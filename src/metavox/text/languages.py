"""Language codes: what a tag such as ``zh-CN`` or ``ml`` says about the writing of a text."""

_ISO_639_3 = """
aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bi:bis
bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu
dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry
ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina
id:ind ie:ile ig:ibo ii:iii ik:ipk in:ind io:ido is:isl it:ita iu:iku iw:heb ja:jpn ji:yid jv:jav ka:kat kg:kon
ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug
li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya
na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss
pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag
sh:hbs si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel
tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb
ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
arb:ara azj:aze cmn:zho lvs:lav pbu:pus pes:fas prs:fas ydd:yid
"""
ISO_639_3 = dict(pair.split(":") for pair in _ISO_639_3.split())
"""Three letters for two; and the language itself for its standard form where romanisation has rules for it."""

MANDARIN = frozenset({"cmn", "zh", "zho", "chi"})
DOTTED_I = frozenset({"tr", "tur", "az", "aze", "azj"})
"""Where I and İ are two letters."""
UNSPACED = frozenset(
    {
        *MANDARIN,
        *("yue", "wuu", "nan", "hak", "hsn", "gan", "cdo", "lzh"),  # Chinese
        *("ja", "jpn", "th", "tha", "nod", "lo", "lao", "km", "khm", "my", "mya", "bur", "shn"),
        *("bo", "bod", "tib", "dz", "dzo"),  # Tibetan marks syllables, not words
    }
)
"""Where blanks do not mark words."""


def primary(lang: str | None) -> str:
    """The language of a tag, lower case, without script and country: ``zh`` of ``zh-Hans-CN``; "" of None."""
    return (lang or "").strip().lower().replace("_", "-").partition("-")[0]


def language_key(lang: str | None) -> str:
    """What tags of one language share: ``eng`` of ``en``, ``eng`` and ``en-GB``; "" of None."""
    return iso_639_3(lang) or primary(lang)


def iso_639_3(lang: str | None) -> str | None:
    """Three letters for a tag; one of three letters is itself, and what nobody knows is None."""
    code = primary(lang)
    found = ISO_639_3.get(code, code)
    return found if len(found) == 3 and found.isascii() and found.isalpha() else None
