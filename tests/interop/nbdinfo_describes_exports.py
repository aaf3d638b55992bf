"""Goal: nbdinfo (libnbd) sees what is exported: names, sizes, flags. Method: its JSON against the files and the
options."""
import json

from support import check, equal, need, run, tool


def names(uri):
    listing = json.loads(tool("nbdinfo", "--list", "--json", uri))
    return {export["export-name"]: export["export-size"] for export in listing["exports"]}


def one_export_has_size_and_flags(case):
    need("nbdinfo")
    case.serve(case.disk(64 << 20, "first.img"))
    info = json.loads(tool("nbdinfo", "--json", case.uri))
    check(info["protocol"].startswith("newstyle"), f"protocol {info['protocol']!r}")
    equal(len(info["exports"]), 1, "exports described")
    export = info["exports"][0]
    equal(export["export-size"], 64 << 20, "export-size")
    equal(export["is_read_only"], False, "is_read_only")
    for flag in ("flush", "fua", "trim", "zero", "fast_zero", "cache", "multi_conn"):
        equal(export["can_" + flag], True, "can_" + flag)
    least, preferred, most = (export[f"block_size_{which}"] for which in ("minimum", "preferred", "maximum"))
    equal(least, 1, "block_size_minimum")
    check(512 <= preferred <= 1 << 20 and preferred & (preferred - 1) == 0, f"block_size_preferred {preferred}")
    check(48 << 20 <= most, f"block_size_maximum {most}: clients send 48 MiB")
    equal(tool("nbdinfo", "--size", case.uri).strip(), str(64 << 20), "nbdinfo --size")


def the_list_names_every_export(case):
    need("nbdinfo")
    case.serve(case.disk(1 << 20, "plain.img"), "given=" + case.disk(2 << 20, "b.img"), "π ü=" + case.disk(12345, "c.img"))
    equal(names(case.uri), {"plain.img": 1 << 20, "given": 2 << 20, "π ü": 12345}, "exports")


def each_name_leads_to_its_file(case):
    need("nbdinfo")
    server = case.spawn("--listen", "127.0.0.1:0", "one=" + case.disk(1 << 20, "a"), "two=" + case.disk(3 << 20, "b"))
    server.wait_ready()
    base = f"nbd://127.0.0.1:{server.port()}/"
    equal(tool("nbdinfo", "--size", base + "one").strip(), str(1 << 20), "size of one")
    equal(tool("nbdinfo", "--size", base + "two").strip(), str(3 << 20), "size of two")
    equal(tool("nbdinfo", "--size", base).strip(), str(1 << 20), "the empty name is the first export")
    tool("nbdinfo", "--size", base + "none", ok=False)


def a_file_name_with_an_equals_sign_can_be_served(case):
    need("nbdinfo")
    case.serve("x=" + case.disk(4096, "a=b.img"))
    equal(names(case.uri), {"x": 4096}, "exports")


def an_empty_file_is_an_export_of_size_0(case):
    need("nbdinfo")
    case.serve(case.disk(0, "empty.img"))
    equal(tool("nbdinfo", "--size", case.uri).strip(), "0", "size")


def read_only_is_said(case):
    need("nbdinfo")
    case.serve("--read-only", case.disk(1 << 20))
    tool("nbdinfo", "--is", "read-only", case.uri)
    for flag in ("trim", "zero"):
        tool("nbdinfo", "--can", flag, case.uri, ok=False)


run(one_export_has_size_and_flags, the_list_names_every_export, each_name_leads_to_its_file,
    a_file_name_with_an_equals_sign_can_be_served, an_empty_file_is_an_export_of_size_0, read_only_is_said)
