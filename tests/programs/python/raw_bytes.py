import sys

sys.stdout.buffer.write(b"\xff\x00not text\n")
sys.stderr.buffer.write("plain text: \u00e9\n".encode())
