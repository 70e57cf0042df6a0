"""XMP packets: what captiond adds, what it keeps, and what it refuses."""

import time
from xml.etree import ElementTree

import pytest

from captiond.photofiles.image_words import NewWords, OtherWords
from captiond.photofiles.merging import has_own_words, merge, words_in
from captiond.photofiles.metadata_errors import MetadataUnreadable
from captiond.photofiles.xmp_packet import EMPTY, OWN_CAPTION, OWN_MODEL, XmpPacket

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
FIELDS = {
    "description": "{http://purl.org/dc/elements/1.1/}description",
    "alt": "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}AltTextAccessibility",
    "subject": "{http://purl.org/dc/elements/1.1/}subject",
    "tags_list": "{http://www.digikam.org/ns/1.0/}TagsList",
    "hierarchy": "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject",
}
BOAT = NewWords(
    "a red boat on a lake",
    (("red boat", "vehicle"), ("boat", "vehicle"), ("lake", "nature")),
    "m",
    "A red boat on a lake.",
)
CAR = NewWords(
    "a car <&> a dog", (("car", "vehicle"), ("dog", "animal"), ("b/w|x", "other")), "m", "A <car>."
)
NOTHING = OtherWords()
# As digiKam writes it: simple properties are attributes, and there is a packet wrapper.
PERSONS = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <!-- by hand -->
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
   xmp:Rating="4" xmp:Label="a > b">
   <dc:description>
    <r:Alt>
     <r:li xml:lang="de-DE">Unser Boot</r:li>
    </r:Alt>
   </dc:description>
   <dc:subject><r:Bag><r:li>Holiday</r:li><r:li>Boat</r:li></r:Bag></dc:subject>
   <digiKam:TagsList><r:Seq><r:li>Things/Boat</r:li><r:li>Holiday</r:li></r:Seq></digiKam:TagsList>
  </r:Description>
 </r:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


def fields(packet: bytes) -> dict[str, list[str]]:
    """Return the values of the fields, by a parser that is not captiond's."""
    root = ElementTree.fromstring(packet)
    found = {}
    for label, name in FIELDS.items():
        elements = list(root.iter(name))
        assert len(elements) <= 1, "a property must not occur twice"
        found[label] = [item.text or "" for e in elements for item in e.iter(f"{RDF}li")]
    return found


def merged(packet: bytes, new: NewWords = BOAT, *, overwrite: bool = False) -> bytes:
    return merge(packet, new, NOTHING, overwrite=overwrite).packet


def test_a_new_packet_has_every_field() -> None:
    result = merge(b"", BOAT, NOTHING, overwrite=False)
    assert fields(result.packet) == {
        "description": ["a red boat on a lake"],
        "alt": ["A red boat on a lake."],
        "subject": ["red boat", "boat", "lake"],
        "tags_list": ["vehicle/red boat", "vehicle/boat", "nature/lake"],
        "hierarchy": ["vehicle|red boat", "vehicle|boat", "nature|lake"],
    }
    assert result.kept == ()
    assert b'xml:lang="x-default"' in result.packet


def test_texts_are_escaped_and_separators_leave_the_names_of_tags() -> None:
    found = fields(merged(b"", CAR))
    assert found["description"] == ["a car <&> a dog"]
    assert found["subject"] == ["car", "dog", "b/w x"]
    assert found["tags_list"] == ["vehicle/car", "animal/dog", "b w x"]
    assert found["hierarchy"] == ["vehicle|car", "animal|dog", "b/w x"]


def test_characters_that_xml_cannot_have_are_left_out() -> None:
    new = NewWords("a \x01boat\ud800", (("red\x0bboat\ufffe", "vehicle"),), "m\udce9", "A \0boat.")
    packet = merged(merged(b"", new), new, overwrite=True)
    assert fields(packet) == {
        "description": ["a boat"],
        "alt": ["A boat."],
        "subject": ["redboat"],
        "tags_list": ["vehicle/redboat"],
        "hierarchy": ["vehicle|redboat"],
    }


@pytest.mark.parametrize(
    "item",
    [
        '<r:li xml:lang="x-default" r:parseType="Resource"><r:value>Our boat</r:value></r:li>',
        "<r:li><r:Description><r:value>Our boat</r:value><dc:type/></r:Description></r:li>",
        '<r:li><r:Description r:value="Our boat"/></r:li>',
        '<r:li r:parseType="Resource"><dc:title>Our boat</dc:title></r:li>',
        '<r:li r:resource="Our boat"/>',
        "<r:_1>Our boat</r:_1>",
        "<r:li>" + "<r:Bag>" * 5000 + "Our boat" + "</r:Bag>" * 5000 + "</r:li>",
    ],
    ids=["resource", "description", "attribute", "structure", "address", "number", "depth"],
)
def test_values_with_qualifiers_are_a_persons(item: str) -> None:
    packet = PERSONS.replace(b'<r:li xml:lang="de-DE">Unser Boot</r:li>', item.encode())
    packet = packet.replace(b"<r:li>Boat</r:li>", item.encode())
    assert packet.count(b"Our boat") == 2
    result = merge(packet, BOAT, NOTHING, overwrite=True)
    assert result.kept == ("description",)
    assert result.packet.count(b"Our boat") >= 2
    words = words_in(result.packet)
    assert words.description == "Our boat"
    assert "Our boat" in words.keywords


def test_what_a_person_wrote_stays_and_tags_are_united() -> None:
    result = merge(PERSONS, BOAT, NOTHING, overwrite=False)
    assert result.kept == ("description",)
    found = fields(result.packet)
    assert found["description"] == ["Unser Boot"]
    assert found["alt"] == ["A red boat on a lake."]
    assert found["subject"] == ["Holiday", "Boat", "red boat", "lake"]
    assert found["tags_list"] == ["Things/Boat", "Holiday", "vehicle/red boat", "nature/lake"]


def test_every_other_byte_stays() -> None:
    """The lines of the old packet are in the new one, but for the lists that have new items."""
    new = merged(PERSONS).decode().splitlines()
    for line in PERSONS.decode().splitlines():
        if "Bag" not in line and "Seq" not in line and "</r:RDF>" not in line:
            assert line in new


@pytest.mark.parametrize("overwrite", [False, True])
def test_overwriting_replaces_only_captionds_own_words(overwrite: bool) -> None:
    first = merged(PERSONS)
    found = fields(merged(first, CAR, overwrite=overwrite))
    assert found["description"] == ["Unser Boot"], "a person's, in either case"
    assert {"Holiday", "Boat"} < set(found["subject"])
    assert {"Things/Boat", "Holiday"} < set(found["tags_list"])
    if overwrite:
        assert found["alt"] == ["A <car>."]
        assert found["subject"] == ["Holiday", "Boat", "car", "dog", "b/w x"]
        assert found["hierarchy"] == ["vehicle|car", "animal|dog", "b/w x"]
        assert not {"vehicle/red boat", "nature/lake"} & set(found["tags_list"])
    else:
        assert found["alt"] == ["A red boat on a lake."]
        assert {"red boat", "lake", "car", "dog"} < set(found["subject"])


def test_a_tag_with_separators_is_taken_back() -> None:
    after = fields(merged(merged(b"", CAR), BOAT, overwrite=True))
    assert after["subject"] == ["red boat", "boat", "lake"]
    assert after["tags_list"] == ["vehicle/red boat", "vehicle/boat", "nature/lake"]


def test_a_tag_whose_accents_are_characters_of_their_own_is_the_same_tag() -> None:
    words = NewWords("a caf\u00e9", (("caf\u00e9", "place"),), "m", "A caf\u00e9.")
    packet = merge(b"", words, OtherWords("", ("Cafe\u0301",)), overwrite=False).packet
    assert fields(packet)["subject"] == ["Cafe\u0301"]


def test_overwriting_with_the_same_words_changes_nothing_that_is_read() -> None:
    once = merged(PERSONS)
    again = merged(once, overwrite=True)
    assert {name: sorted(values) for name, values in fields(again).items()} == {
        name: sorted(values) for name, values in fields(once).items()
    }
    assert again.count(b"captiond:Caption>") == 2


def test_a_description_that_a_person_corrected_is_a_persons() -> None:
    corrected = merged(b"").replace(
        b'default">a red boat on a lake</rdf:li></rdf:Alt></dc:desc',
        b'default">our red boat</rdf:li></rdf:Alt></dc:desc',
    )
    result = merge(corrected, CAR, NOTHING, overwrite=True)
    assert fields(result.packet)["description"] == ["our red boat"]
    assert result.kept == ("description",)


def test_captionds_note_is_found_where_other_programs_move_it() -> None:
    """XMP toolkits write simple properties as attributes."""
    moved = merged(b"").replace(b"<captiond:Caption>a red boat on a lake</captiond:Caption>", b"")
    moved = moved.replace(b"<captiond:Model>m</captiond:Model>", b"")
    attributes = b'rdf:about="" captiond:Caption="a red boat on a lake" captiond:Model="m"'
    moved = moved.replace(b'rdf:about=""', attributes)
    assert has_own_words(moved)
    again = merged(moved, CAR, overwrite=True)
    assert fields(again)["description"] == ["a car <&> a dog"]
    assert again.count(b"captiond:Caption=") == 0
    assert not has_own_words(PERSONS)


def test_a_persons_attribute_of_the_same_name_and_value_stays() -> None:
    person = b'xmlns:p="urn:p" p:Model="m" p:note=" captiond:Model=\'m\' " p:Caption="a &gt;&#10;b"'
    own = b'xmlns:captiond="urn:captiond:1.0/" captiond:Model="m" captiond:Caption=\'a >\nb\''
    for attributes in (person + b" " + own, own + b"\n" + person):
        packet = PERSONS.replace(b'xmp:Rating="4"', attributes)
        after = merged(packet, BOAT, overwrite=True)
        assert person.partition(b" ")[2] in after
        assert own.partition(b" ")[2] not in after
        assert XmpPacket(after).texts(OWN_MODEL) == [BOAT.model]
        assert XmpPacket(after).text(OWN_CAPTION) == BOAT.caption


def test_a_blank_caption_is_noted_but_writes_no_description() -> None:
    packet = merged(b"", NewWords("", (), "m", ""))
    assert fields(packet) == {name: [] for name in FIELDS}
    assert has_own_words(packet), "the image is not captioned again"


def test_other_fields_that_xmp_would_hide_are_kept_visible() -> None:
    other = OtherWords("by a person", ("Rome", "lake"), ("Places/Rome",))
    result = merge(b"", BOAT, other, overwrite=False)
    found = fields(result.packet)
    assert (found["description"], result.kept) == ([], ("description",))
    assert found["alt"] == ["A red boat on a lake."]
    assert found["subject"] == ["Rome", "lake", "red boat", "boat"]
    assert found["tags_list"] == ["Places/Rome", "lake", "vehicle/red boat", "vehicle/boat"]


def test_a_hierarchy_of_lightroom_is_visible_to_programs_that_read_digikams() -> None:
    lightroom = merged(b"").replace(b"vehicle|boat", b"Mine|boat")
    lightroom = (
        lightroom.partition(b"<digiKam:TagsList>")[0]
        + (lightroom.partition(b"</digiKam:TagsList>")[2])
    )
    assert "Mine/boat" in fields(merged(lightroom))["tags_list"]


def test_what_a_person_wrote_is_known_apart_from_what_captiond_wrote() -> None:
    assert words_in(merged(b"")) == NOTHING
    assert words_in(merged(PERSONS)) == OtherWords(
        "Unser Boot", ("Holiday", "Boat"), ("Things/Boat", "Holiday")
    )
    assert words_in(b"") == NOTHING


def test_unusual_forms_are_kept_rather_than_doubled() -> None:
    packet = EMPTY.replace(
        b"</rdf:RDF>",
        b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:description="short">'
        b"<dc:subject>one, two</dc:subject></rdf:Description></rdf:RDF>",
    )
    result = merge(packet, BOAT, NOTHING, overwrite=True)
    assert result.kept == ("description", "tags")
    assert b'dc:description="short"' in result.packet
    assert b"<dc:subject>one, two</dc:subject>" in result.packet
    assert result.packet.count(b"dc:subject>") == 2


@pytest.mark.parametrize(
    "empty",
    [
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>',
        EMPTY.replace(b" </rdf:RDF>", b'<rdf:Description rdf:about="uuid:1"/></rdf:RDF>'),
        EMPTY.replace(
            b" </rdf:RDF>",
            b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag/>'
            b"</dc:subject><dc:description/></rdf:Description></rdf:RDF>",
        ),
    ],
)
def test_empty_elements_are_filled(empty: bytes) -> None:
    packet = merged(empty)
    assert fields(packet)["subject"] == ["red boat", "boat", "lake"]
    assert fields(packet)["description"] == ["a red boat on a lake"]
    if b"uuid:1" in empty:
        assert packet.count(b'rdf:about="uuid:1"') == 2, "all properties are about one thing"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"not xml", "not well-formed"),
        (b"<a/>", "not XMP"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "document type"),
        (EMPTY.decode().encode("utf-16"), "not in UTF-8"),
        (
            b'<?xml version="1.0" encoding="ISO-8859-1"?>\n' + EMPTY,
            "not in UTF-8 but in ISO-8859-1",
        ),
        (EMPTY[:-20], "not well-formed"),
    ],
)
def test_what_is_no_xmp_is_refused(packet: bytes, reason: str) -> None:
    with pytest.raises(MetadataUnreadable, match=reason):
        XmpPacket(packet)


GERMAN = NewWords("ein Boot", (("Boot", "vehicle"),), "m", "Ein Boot.", "de", "a <boat>")


def test_a_translated_caption_has_its_language_and_the_english_one() -> None:
    packet = merged(b"", GERMAN)
    for text in (
        '<rdf:li xml:lang="x-default">ein Boot</rdf:li><rdf:li xml:lang="de">ein Boot</rdf:li>'
        '<rdf:li xml:lang="en">a &lt;boat&gt;</rdf:li>',
        '<rdf:li xml:lang="x-default">Ein Boot.</rdf:li><rdf:li xml:lang="de">Ein Boot.</rdf:li>',
    ):
        assert text in packet.decode()
    assert fields(packet)["description"] == ["ein Boot", "ein Boot", "a <boat>"]
    assert words_in(packet) == OtherWords()


@pytest.mark.parametrize(("first", "second"), [(GERMAN, BOAT), (BOAT, GERMAN), (GERMAN, GERMAN)])
def test_captions_of_one_language_replace_those_of_another(
    first: NewWords, second: NewWords
) -> None:
    again = merged(merged(b"", first), second, overwrite=True)
    assert fields(again) == fields(merged(b"", second))


def test_a_persons_text_beside_captionds_languages_is_kept() -> None:
    packet = merged(b"", GERMAN).replace(
        b">a &lt;boat&gt;</rdf:li></rdf:Alt>", b">our boat</rdf:li></rdf:Alt>"
    )
    assert b"our boat" in packet
    result = merge(packet, BOAT, NOTHING, overwrite=True)
    assert "description" in result.kept
    assert fields(result.packet)["description"] == ["ein Boot", "ein Boot", "our boat"]


def test_a_long_text_of_many_lines_is_read_in_linear_time() -> None:
    """Photo programs write previews and maps of depth as text."""
    few, many = (min(seconds_for(lines) for _ in range(3)) for lines in (3_000, 24_000))
    assert many / few < 24


def seconds_for(lines: int) -> float:
    """Return the processor time of a packet with a text of so many lines."""
    text = b"<captiond:Model>" + b"forty characters of a text in base 64&#xA;" * lines
    namespaces = b' xmlns:rdf="' + RDF[1:-1].encode() + b'" xmlns:captiond="urn:captiond:1.0/"'
    inner = b"<rdf:Description>" + text + b"</captiond:Model></rdf:Description>"
    packet = b"<rdf:RDF" + namespaces + b">" + inner + b"</rdf:RDF>"
    started = time.process_time()
    assert has_own_words(packet)
    return time.process_time() - started
