#!/usr/bin/env python3
"""Runs the language model's programs and checks what they write: check.py CHECK PROGRAM-FOLDER DATA-FOLDER."""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

check, programs, data = sys.argv[1:4]
data = os.environ.get("TESSERA_TEST_DATA", data)


def run(program, *arguments, ok=True):
    done = subprocess.run([os.path.join(programs, program), *map(str, arguments)], capture_output=True)
    if ok:
        assert done.returncode == 0, (arguments, done.returncode, done.stderr.decode(errors="replace"))
    else:
        assert done.returncode == 1, (arguments, done.returncode, done.stderr.decode(errors="replace"))
        assert done.stderr.strip(), arguments
    return done.stdout


def refused(program, *arguments):
    """Options are refused with a message, before anything is written."""
    done = subprocess.run([os.path.join(programs, program), *map(str, arguments)], capture_output=True)
    assert 0 < done.returncode < 128, (program, arguments, done.returncode, done.stderr.decode(errors="replace"))
    assert done.stderr.strip(), (program, arguments)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def need(*names):
    for name in names:
        if not os.path.exists(os.path.join(data, name)):
            print(f"skipped: {name} is not in {data}")
            sys.exit(77)
    return [os.path.join(data, name) for name in names]


def greedy():
    """The published text at temperature 0, whatever the number of threads."""
    model, tokenizer, text = need("stories260K.bin", "tok512.bin", "stories260K.greedy.txt")
    for threads in (1, 2, 3):
        said = run("generate", "--model", model, "--tokenizer", tokenizer, "--temperature", 0,
                   "--threads", threads)
        assert said == read(text), said.decode(errors="replace")


SMALL = ["--steps", 12, "--warmup", 2, "--batch", 3, "--dim", 32, "--hidden", 48, "--layers", 2,
         "--heads", 4, "--kv-heads", 2, "--evaluate-every", 5]


def write_corpus(folder):
    words = "for ( int i = 0 ; i < n ) sum += x [ i ] * y return const template typename\n".split(" ")
    draw = random.Random(1)
    for f in range(40):
        with open(os.path.join(folder, f"file{f}.txt"), "w") as file:
            file.write(" ".join(draw.choice(words) for _ in range(300)))


def training():
    """The same weights for any number of threads, and for a run that was stopped and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        os.mkdir(text)
        write_corpus(text)
        path = lambda name: os.path.join(folder, name)
        for threads in (1, 2, 3):
            run("train_lm", "--data", text, "--out", path(f"m{threads}"), "--threads", threads, *SMALL, "--length", 40)
        run("train_lm", "--data", text, "--out", path("half"), "--threads", 2, "--stop-after", 7, *SMALL, "--length", 40)
        assert read(path("half")) != read(path("m1"))
        run("train_lm", "--data", text, "--out", path("half"), "--threads", 1, "--resume", *SMALL, "--length", 40)
        for other in ("m2", "m3", "half"):
            assert read(path("m1")) == read(path(other)), other
            assert read(path("m1.state")) == read(path(other + ".state")), other
        run("train_lm", "--data", text, "--out", path("half"), "--resume", *SMALL, "--length", 40, "--seed", 9, ok=False)
        with open(os.path.join(text, "file0.txt"), "a") as file:
            file.write("more")
        run("train_lm", "--data", text, "--out", path("half"), "--resume", *SMALL, "--length", 40, ok=False)


def compression():
    """Every row of both tables is there, with more bytes never where fewer are claimed."""
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        os.mkdir(text)
        write_corpus(text)
        model, output, plot = (os.path.join(folder, name) for name in ("m.safetensors", "t.json", "p.svg"))
        run("train_lm", "--data", text, "--out", model, *SMALL, "--length", 192)  # beyond the codecs' exact windows
        printed = run("compress_lm", "--model", model, "--text", text, "--bytes", 2000, "--json", output, "--plot",
                      plot, "--prompt", "for (").decode(errors="replace")
        tables = json.loads(read(output))
        assert len(tables["weights"]) >= 28 and len(tables["caches"]) == 18 and len(tables["attention"]) == 8, tables
        for rows, first in ((tables["weights"], "weights"), (tables["caches"], "cache"), (tables["attention"], "attention")):
            assert rows[0]["ratio"] == 1 and abs(rows[0]["KL bits"]) < 1e-6, rows[0]
            for row in rows:
                assert row[first] in printed, row
                assert row["bytes"] > 0 and row["bits/byte"] > 0 and row["KL bits"] > -1e-6, row
                assert row["prefill tok/s"] > 0 and row["decode tok/s"] > 0, row
            for row in rows[1:]:
                assert row["bytes"] < rows[0]["bytes"], row
        named = [row["weights"] for row in tables["weights"]]
        for name in ("int8", "int4", "GPTQ", "QuantEase", "AWQ", "LQ-LoRA 4", "NF4", "Q4_K", "2 bits, 2% f32",
                     "BitStack 1/4", "BitStack 3/16", "BitStack 1/8", "int8 and int4, HAWQ"):
            assert name in named, name
        for name in ("low-rank 3/8", "low-rank 3/8, calibrated", "Monarch 3/8", "Kronecker 3/8"):
            assert named.index(name + ", trained") == named.index(name) + 1, named
        assert read(plot).startswith(b"<svg")
        assert b"--threads" in run("compress_lm", "--help")


def kv_lab():
    """The full cache answers everything; what a policy chose for the first turn's questions serves the later ones less."""
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        os.mkdir(text)
        write_corpus(text)
        model, output, plot = (os.path.join(folder, name) for name in ("m.safetensors", "t.json", "p.svg"))
        run("train_lm", "--data", text, "--out", model, *SMALL, "--length", 192)
        arguments = ("--model", model, "--text", text, "--windows", 1, "--tokens", 192, "--shares", 0.25, "--codecs", "f16",
                     "--more-codecs", "zip group=8 recent=8", "int2 recent=64", "think f16", "matryoshka f16", "--few", "KeyDiff")
        printed = run("kv_lab", *arguments, "--json", output, "--plot", plot).decode()
        assert "Frontier: Retrieval" in printed, printed
        rows = json.loads(read(output))["rows"]
        assert len(rows) >= 45, rows
        for row in rows:
            assert row["decode tok/s"] > 0 and row["text share"] > 0, row
            of_models = row["policy"] in ("SnapKV, pyramid", "SnapKV, ScaleKV", "SimLayerKV", "FINCH")
            of_models = of_models or row["policy"].endswith("closed up")
            assert (row["retrieval share"] is None) == of_models, row
            if row["policy"] == "all" and row["codec"].startswith(("f32", "f16", "zip")):
                assert row["multi-turn"]["accuracy"] == row["shared context"]["accuracy"] == [1, 1, 1], row
            elif row["codec"] == "f16" and not row["policy"].startswith("window"):  # tokens are whole, of 192 and of 96
                assert of_models or abs(row["retrieval share"] - 0.25) < 0.006 or row["retrieval bytes"] in "<>", row
                assert abs(row["text share"] - 0.25) < 0.006 or row["text bytes"] in "<>", row
        met = [row for row in rows if row["codec"] == "f16" and row["policy"] != "all" and row["text bytes"] == "="]
        assert len(met) > 30, rows
        policies = [row["policy"] for row in rows if row["codec"] == "f16"]
        for name in ("KVzip", "CriticalKV", "CriticalAdaKV", "Compactor", "SnapKV by threshold", "SimLayerKV", "FINCH",
                     "window, closed up", "KVMerger by threshold"):
            assert name in policies, policies
        for codec in ("think f16", "matryoshka f16"):
            assert [row["policy"] for row in rows if row["codec"] == codec] == ["all", "KeyDiff"], rows
        (snap,) = [row for row in rows if row["policy"] == "SnapKV"]
        for life in ("multi-turn", "shared context"):
            first, *later = snap[life]["accuracy"]
            assert first > max(later), snap
        assert snap["multi-turn"]["KL"][0] == snap["shared context"]["KL"][0], snap
        assert read(plot).startswith(b"<svg")
        refused("kv_lab", "--model", model, "--text", text, "--codecs", "f17")
        refused("kv_lab", "--model", model, "--text", text, "--policies", "nothing")
        refused("kv_lab", "--model", model, "--text", text, "--shares", "nan")


def optimizers():
    """Every optimizer trains the language model and goes on from its state; side by side they lower the loss."""
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        os.mkdir(text)
        write_corpus(text)
        path = lambda name: os.path.join(folder, name)
        listed = run("train_lm", "--list-optimizers").decode().splitlines()
        names = [line.split()[0] for line in listed]
        assert len(names) >= 40 and len(set(names)) == len(names), names
        tiny = ["--data", text, "--steps", 4, "--warmup", 1, "--batch", 2, "--dim", 16, "--hidden", 24, "--layers", 1,
                "--heads", 2, "--kv-heads", 1, "--evaluate-every", 0, "--length", 24]
        for name in names:
            given = [*tiny, "--optimizer", name]
            run("train_lm", *given, "--out", path("whole"), "--threads", 2)
            run("train_lm", *given, "--out", path("half"), "--threads", 1, "--stop-after", 2)
            run("train_lm", *given, "--out", path("half"), "--threads", 1, "--resume")
            for suffix in ("", ".state"):
                assert read(path("whole" + suffix)) == read(path("half" + suffix)), (name, suffix)
        run("train_lm", *tiny, "--optimizer", "lion", "--out", path("half"), "--resume", ok=False)
        run("train_lm", *tiny, "--optimizer", "lion", "--hyper", "b3=1", "--out", path("half"), ok=False)
        for bad in ("--optimizer=adamv", "--optimizer="):
            refused("train_lm", *tiny, "--out", path("none"), bad)
        for bad in ("b1", "b1=", "=1", "b1=x", "b1=nan"):
            run("train_lm", *tiny, "--out", path("none"), "--hyper", bad, ok=False)
        lost = [*tiny[:2], "--steps", 12, *tiny[4:], "--rate", 1000, "--weight-decay", 1000, "--out", path("none")]
        lost = subprocess.run([os.path.join(programs, "train_lm"), *map(str, lost)], capture_output=True)
        assert lost.returncode == 1, lost
        assert b"expected a finite one; the first such element is of" in lost.stderr and b"--rate" in lost.stderr, lost

        small = ["--text", text, "--steps", 30, "--tune-steps", 6, "--factors", 0.3, 1, 3, "--batch", 4, "--length", 32,
                 "--dim", 32, "--hidden", 48, "--layers", 1]
        tried = ["adamw", "lion", "muon", "adafactor", "adamw_8bit", "sgd=0.1"]
        files = ["--json", path("t.json"), "--plot", path("t.svg")]
        printed = run("optim_lab", *small, "--optimizers", *tried, *files).decode()
        table = json.loads(read(path("t.json")))
        rows = {row["optimizer"]: row for row in table["rows"]}
        assert len(rows) == len(tried) and rows["sgd"]["rate"] == 0.1, rows
        for row in rows.values():
            assert row["optimizer"] in printed and len(row["losses"]) == 30, row
            assert row["train"] < row["losses"][0] and row["tokens/s"] > 0 and row["step ms"] >= 0, row
        assert rows["adamw"]["state bytes"] > 8 * table["parameters"] > 4 * rows["adamw_8bit"]["state bytes"] * 0.9, rows
        assert rows["muon"]["state bytes"] < rows["adamw"]["state bytes"], rows
        assert read(path("t.svg")).startswith(b"<svg")
        refused("optim_lab", *small, "--optimizers", "adamv")
        refused("optim_lab", *small, "--steps", 0)
        missing = subprocess.run([os.path.join(programs, "optim_lab"), "--task", "mnist", "--mnist", path("none")],
                                 capture_output=True)
        assert missing.returncode == 77 and b"skipped" in missing.stdout, missing
        digits = os.path.join(data, "mnist14x14.safetensors")
        if not os.path.exists(digits):
            print(f"without digits: mnist14x14.safetensors is not in {data}")
            return
        for units in (0, 32):
            run("optim_lab", "--task", "mnist", "--mnist", digits, "--hidden-units", units, "--steps", 150, "--batch", 100,
                "--optimizers", "adamw=0.02", "muon=0.06", "--json", path("m.json"))
            for row in json.loads(read(path("m.json")))["rows"]:
                assert row["held out"] < 0.2, row


def hostile():
    """Broken models and senseless requests are refused with a message."""
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        os.mkdir(text)
        write_corpus(text)
        model = os.path.join(folder, "m.safetensors")
        run("train_lm", "--data", text, "--out", model, *SMALL, "--length", 40)
        whole = read(model)
        broken = os.path.join(folder, "broken.safetensors")

        def refuse(content, *more):
            with open(broken, "wb") as file:
                file.write(content)
            run("generate", "--model", broken, *more, ok=False)

        for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
            refuse(whole[:size])
        length = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:8 + length])
        for key, value in (("dim", "33"), ("dim", "-32"), ("layers", "1000000000"), ("vocab", "99999999999999999999"),
                           ("heads", "0"), ("context", "x"), ("hidden", "64"), ("kv_heads", "3")):
            changed = json.loads(json.dumps(header))
            changed["__metadata__"][key] = value
            packed = json.dumps(changed).encode()
            packed += b" " * (-len(packed) % 8)
            refuse(struct.pack("<Q", len(packed)) + packed + whole[8 + length:])
        nan = bytearray(whole)
        nan[-2:] = b"\xc0\x7f"  # the last parameter
        refuse(bytes(nan))
        refuse(random.Random(2).randbytes(5000))
        refuse(struct.pack("<Q", 1 << 60) + whole[8:])
        for suffix in (".bin", ".gguf"):
            other = os.path.join(folder, "other" + suffix)
            for content in (b"", b"GGUF", whole[:1000], random.Random(3).randbytes(3000), b"\xff" * 400):
                with open(other, "wb") as file:
                    file.write(content)
                run("generate", "--model", other, ok=False)
                run("convert_lm", "--model", other, "--out", os.path.join(folder, "x.gguf"), ok=False)
                run("compress_lm", "--model", other, "--text", text, ok=False)
            run("generate", "--model", model, "--tokenizer", other, ok=False)
        huge = "9" * 30
        for option, values in (
                ("--seed", ("-1", "1.5", "x", huge, "", "nan")), ("--steps", ("0", "-1", "nan", huge, "1e3")),
                ("--threads", ("0", "-2", "5000", "nan", huge)), ("--temperature", ("-1", "nan", "inf", "1e9", "x")),
                ("--top-p", ("-0.1", "nan", "2", "-inf")), ("--nothing", ("1",))):
            for value in values:
                refused("generate", "--model", model, f"{option}={value}")
        for option, values in (
                ("--bytes", ("0", "-1", "nan", huge)), ("--under", ("-1", "nan", "1e3", huge)),
                ("--sample", ("0", "-5", "nan")), ("--finetune", ("-1", "nan", huge, "1.5")),
                ("--threads", ("0", "-1", huge)), ("--prompt", ("x" * 400,)), ("--tokenizer", ("none",)),
                ("--json", ("/nonexistent/x", folder)), ("--plot", ("/nonexistent/x", folder))):
            for value in values:
                given = {"--bytes": 500, "--finetune": 1} | {option: value}
                refused("compress_lm", "--model", model, "--text", text, *(f"{o}={v}" for o, v in given.items()))
        out = os.path.join(folder, "not-written")
        for option, values in (
                ("--steps", ("0", "-1", huge)), ("--batch", ("0", "-1", "nan", "4096000")), ("--length", ("1", "-1", huge)),
                ("--rate", ("0", "-1", "nan", "inf", "1e9")), ("--weight-decay", ("-1", "nan", "inf")),
                ("--beta2", ("1", "nan", "-1")), ("--seed", ("-1", "nan", huge)), ("--threads", ("0", "-1")),
                ("--warmup", ("-1", "nan", huge)), ("--stop-after", ("-1",)), ("--save-every", ("-1",)),
                ("--evaluate-every", ("-1",)), ("--dim", ("0", "-4", "33", huge)), ("--layers", ("0", "-1", "1000000")),
                ("--heads", ("0", "3", "nan")), ("--kv-heads", ("0", "3")), ("--hidden", ("0", "-1", "1000000000")),
                ("--data", (os.path.join(folder, "none"), "/dev/null")), ("--out", ("/nonexistent/x", folder)),
                ("--state", (out, "/nonexistent/x")), ("--resume", ("true", "x"))):
            for value in values:
                given = {"--data": text, "--out": out, "--steps": 1, "--dim": 32, "--heads": 4, "--kv-heads": 2,
                         "--layers": 1, "--length": 16} | {option: value}
                refused("train_lm", *(f"{o}={v}" for o, v in given.items()))
        assert not os.path.exists(out)
        refused("train_lm", "--data", text, "--out", out, "--batch", 4096, "--length", 65536, "--layers", 1000)
        empty = os.path.join(folder, "empty")
        os.mkdir(empty)
        refused("train_lm", "--data", empty, "--out", out)
        refused("compress_lm", "--model", model, "--text", empty)
        refused("convert_lm", "--model", model, "--type", "q5", "--out", out)
        refused("convert_lm", "--model", model, "--out", "/nonexistent/x.gguf")
        refused("convert_lm", "--model", model, "--tokenizer", os.path.join(folder, "none"), "--out", out)
        run("generate", "--model", model, "--weights", "int5", ok=False)
        run("generate", "--model", model, "--kv", "nothing", ok=False)
        run("generate", "--model", model, "--prompt", "x" * 400, ok=False)
        run("generate", "--model", os.path.join(folder, "none"), ok=False)
        run("compress_lm", "--model", model, "--text", os.path.join(folder, "none"), ok=False)
        run("compress_lm", "--model", model, "--text", text, "--json", "/nonexistent/t.json", "--bytes", 500, ok=False)


def gguf():
    """A model as GGUF speaks in every type: exactly as before in f32, and again when converted from GGUF to GGUF."""
    model, tokenizer, text = need("stories260K.bin", "tok512.bin", "stories260K.greedy.txt")
    types = ("f32 f16 f64 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_K q3_K q4_K q5_K q6_K iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s "
             "iq4_nl iq4_xs tq1_0 tq2_0 mxfp4 nvfp4 q1_0 q2_0").split()
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        run("convert_lm", "--model", model, "--tokenizer", tokenizer, "--type", "f32", "--out", path("f32.gguf"))
        assert run("generate", "--model", path("f32.gguf"), "--temperature", 0) == read(text)
        run("convert_lm", "--model", path("f32.gguf"), "--type", "f32", "--out", path("again.gguf"))
        assert read(path("again.gguf")) == read(path("f32.gguf"))
        corpus = path("text")
        os.mkdir(corpus)
        write_corpus(corpus)
        wide = path("m.safetensors")  # rows of whole blocks of 256
        run("train_lm", "--data", corpus, "--out", wide, "--steps", 1, "--warmup", 1, "--batch", 1, "--dim", 256,
            "--hidden", 256, "--layers", 1, "--heads", 4, "--kv-heads", 2, "--length", 32)
        sizes = {}
        for kind in types:
            out = path(kind + ".gguf")
            run("convert_lm", "--model", wide, "--type", kind, "--out", out)
            sizes[kind] = os.path.getsize(out)
            said = run("generate", "--model", out, "--temperature", 0, "--steps", 8, "--prompt", "for (")
            assert said.startswith(b"for ("), (kind, said)
        assert sizes["q1_0"] < sizes["iq1_s"] < sizes["iq1_m"] < sizes["iq2_xxs"] < sizes["iq2_s"] < sizes["iq3_s"], sizes
        assert sizes["q1_0"] < sizes["tq1_0"] < sizes["q2_K"] < sizes["q4_K"] < sizes["q8_0"] < sizes["f16"], sizes
        exact = run("generate", "--model", wide, "--temperature", 0, "--steps", 8, "--prompt", "for (")
        assert run("generate", "--model", path("f64.gguf"), "--temperature", 0, "--steps", 8, "--prompt",
                   "for (") == exact
        whole = read(path("f32.gguf"))
        for size in (0, 3, 24, 1000, len(whole) // 2, len(whole) - 100):
            with open(path("broken.gguf"), "wb") as file:
                file.write(whole[:size])
            run("generate", "--model", path("broken.gguf"), ok=False)
        run("convert_lm", "--model", wide, "--type", "q8_K", "--out", path("x.gguf"), ok=False)
        run("generate", "--model", path("q8_0.gguf"), "--tokenizer", tokenizer, ok=False)


{"greedy": greedy, "training": training, "compression": compression, "kv_lab": kv_lab,
 "optimizers": optimizers, "hostile": hostile, "gguf": gguf}[check]()
print("1 passed")
