"""A class whose students each do one thing wrong: who, exercises that are lost ("all", "none"), part of a message of
the first of them.

The code stands in a last cell of an otherwise right homework 1.
"""

# %% perfect: none: right
pass


# %% cell_raises: none: right
raise ValueError("a cell of my own")


# %% function_raises: tokens: raised ZeroDivisionError
def tokens(features, weight):
    return features / (1 // 0)


# %% cell_loops: none: right
while True:
    pass


# %% function_loops: x2z: it takes longer than
def x2z(*given):
    while True:
        pass


# %% loop_that_cannot_be_stopped: x2z: your code takes longer than
def x2z(*given):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


# %% waits_for_ever: token_mixer: your code takes longer than
def token_mixer(*given):
    import time

    time.sleep(3600)


# %% fork_bomb: tokens: your code takes longer than
def tokens(features, weight):
    import os
    import time

    for _ in range(5):  # bounded, 32 processes: this is a test
        os.fork()
    time.sleep(3600)


# %% leaves_a_process: none: right
import os
import time

if os.fork() == 0:
    os.setsid()
    time.sleep(3600)


# %% exit_in_a_cell: none: right
import sys

sys.exit(3)


# %% exit_in_a_function: z2x: raised SystemExit
def z2x(*given):
    exit()


# %% ends_its_process: z2x: ended the process
def z2x(*given):
    import os

    os._exit(0)


# %% ends_its_process_in_a_cell: all: ended the process
import os

os._exit(0)


# %% writes_outside: none: right
from contextlib import suppress
from pathlib import Path

for place in ("..", SUBMISSIONS, SUBMISSIONS + "/perfect", SUBMISSIONS + "/../marks.feedback"):
    with suppress(OSError):
        Path(place, "written-by-a-student.txt").write_text("10 of 10")


# %% changes_the_checks: attention x2z z2x: not divided by the root
import earlyexit.checks.homework_network as h
import earlyexit.checks.verdicts as v
import earlyexit.homework.student as w

h.hw1_attention = lambda *given: None
v.same = print
v.check = lambda *given, **named: v.Verdict("", True, "right")
w.reply_to = lambda *given: {"value": None}


def attention(queries, keys, values):
    return (queries @ keys.T).softmax(dim=1) @ values


# %% too_much_memory: tokens: raised
def tokens(features, weight):
    return torch.ones(10**12)


# %% too_much_output: none: right
for _ in range(200):
    print("x" * 1_000_000)


# %% too_much_disk: all: writes more than 256 MB
import time

for number in range(6):
    with open(f"{number}.bin", "wb") as file:
        file.truncate(60_000_000)
time.sleep(3600)


# %% uses_the_network: none: right
import socket

socket.create_connection(("192.0.2.1", 80), timeout=0.1)


# %% looks_for_hidden_tests: attention x2z z2x: not divided by the root
import os
from pathlib import Path

found = os.environ.get("HOMEWORK_SEED", "") + "".join(str(p) for p in Path("..").glob("*/source/hw1.ipynb"))


def attention(queries, keys, values):
    return (queries @ keys.T).softmax(dim=1) @ values


hidden = hidden_seeds(int(found)) if found else hidden_seeds()


# %% knows_more_than_its_file: attention x2z z2x: name 'scale' is not defined
def attention(queries, keys, values):
    return (queries @ keys.T * scale).softmax(dim=1) @ values  # scale was in a cell that is gone


# %% changes_its_input: attention: changes its input number 1
def attention(queries, keys, values):
    queries /= queries.shape[1] ** 0.5
    return (queries @ keys.T).softmax(dim=1) @ values


# %% gives_no_tensor: token_mixer: should be a tensor or a number
def token_mixer(*given):
    return lambda: 3


# %% is_no_function: token_mixer: should be a function
token_mixer = 3


# %% writes_into_the_pipe: all: ended the process
import os
import struct
from contextlib import suppress

for end in range(3, 40):
    with suppress(OSError):
        os.write(end, struct.pack("<Q", 1000))
os._exit(0)
