"""XMP edited as bytes: what is to go goes, in every spelling, all else stays; hostile ones cost nothing."""

from __future__ import annotations

import time

import pytest

from latentcodec.picture.formats.xmp import join, orientation_of, split, turned, without_announcements
from tests.picture.beside_files import XMP

CAMERA = b'xmlns:%s="http://ns.google.com/photos/1.0/camera/"'


@pytest.mark.parametrize("prefix", [b"GCamera", b"Camera", b"x-1"])
@pytest.mark.parametrize(
    "spelling",
    [
        b' %s:MotionPhoto="1"',
        b"\n  %s:MicroVideo = '1'",
        b"><%s:MotionPhoto>1</%s:MotionPhoto><rdf:rest",
        b"><%s:MicroVideoOffset/><rdf:rest",
    ],
)
def test_announcements_go_in_every_spelling(prefix: bytes, spelling: bytes) -> None:
    declared = XMP % (b" " + CAMERA % prefix + b' %s:Other="2"%s')
    packet = declared % (prefix, spelling.replace(b"%s", prefix))
    kept = declared % (prefix, b"><rdf:rest" if b"rest" in spelling else b"")
    assert without_announcements(packet) == kept


def test_a_directory_of_a_container_goes_whole() -> None:
    space = b' xmlns:C="http://ns.google.com/photos/1.0/container/"'
    inner = b"<C:Directory><rdf:Seq><rdf:li><C:Item/></rdf:li></rdf:Seq></C:Directory>"
    packet = XMP.replace(b"/></rdf:RDF>", b">%s<dc:a/></rdf:Description></rdf:RDF>")
    assert without_announcements(packet % (space, inner)) == packet % (space, b"")


def test_what_is_of_another_namespace_stays() -> None:
    packet = XMP % b' xmlns:GCamera="http://example.org/" GCamera:MotionPhoto="1"'
    assert without_announcements(packet) == packet
    assert without_announcements(None) is None
    assert without_announcements(b"no XML at all") == b"no XML at all"


@pytest.mark.parametrize(
    "filling",
    [
        b" g:MotionPhoto=",
        b' g:MotionPhoto="',
        b"<g:MotionPhoto",
        b"<g:MotionPhoto>",
        b"<g:MotionPhoto%d>",
        b'xmlns:g="',
        b"<rdf:RDF",
        b"<x:xmpmeta ",
    ],
)
def test_hostile_packets_take_no_longer(filling: bytes) -> None:
    head = b"<x " + CAMERA % b"g" + b">"
    many = b"".join(filling.replace(b"%d", b"%d" % number) for number in range((1 << 21) // len(filling)))
    start = time.process_time()
    without_announcements(head + many)
    turned(head + many, 6)
    join(head + many, many)
    assert time.process_time() - start < 4


def test_a_quarter_turn_exchanges_the_sides() -> None:
    packet = (
        XMP % b' tiff:Orientation="6" tiff:ImageWidth="40" tiff:ImageLength="30" exif:PixelXDimension="400"'
    )
    assert orientation_of(packet) == 6
    after = turned(packet, 6) or b""
    assert b'tiff:Orientation="1" tiff:ImageWidth="30" tiff:ImageLength="40"' in after
    assert b'exif:PixelXDimension="400"' in after  # alone
    elements = (
        b"<exif:PixelYDimension>3</exif:PixelYDimension><exif:PixelXDimension>44</exif:PixelXDimension>"
    )
    assert turned(elements, 8) == elements.replace(b"3<", b"#<").replace(b"44", b"3").replace(b"#", b"44")
    assert turned(packet, 3) == packet.replace(b'"6"', b'"1"')


def test_join() -> None:
    extension = (XMP % b' dc:b="2"').replace(b"<rdf:RDF ", b'<rdf:RDF xmlns:dc="http://d/" ')
    main, _, name = split(XMP % b"")
    joined = join(main, extension) or b""
    assert joined.count(b"<rdf:Description") == 2
    assert b'dc:b="2"' in joined
    assert b'xmlns:dc="http://d/"' in joined.split(b">")[1]
    assert name not in joined
    other = main.replace(b"<rdf:RDF ", b'<rdf:RDF xmlns:dc="http://other/" ')
    assert join(other, extension) is None
    assert join(b"no XML", extension) is None
    assert join(main, b"no XML") is None
