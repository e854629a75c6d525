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
        assert len(tables["weights"]) == 27 and len(tables["caches"]) == 9, tables
        for rows, first in ((tables["weights"], "weights"), (tables["caches"], "cache")):
            assert rows[0]["ratio"] == 1 and abs(rows[0]["KL bits"]) < 1e-6, rows[0]
            for row in rows:
                assert row[first] in printed, row
                assert row["bytes"] > 0 and row["bits/byte"] > 0 and row["KL bits"] > -1e-6, row
                assert row["prefill tok/s"] > 0 and row["decode tok/s"] > 0, row
            for row in rows[1:]:
                assert row["bytes"] < rows[0]["bytes"], row
        assert read(plot).startswith(b"<svg")
        assert b"--threads" in run("compress_lm", "--help")


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


{"greedy": greedy, "training": training, "compression": compression, "hostile": hostile, "gguf": gguf}[check]()
print("1 passed")
