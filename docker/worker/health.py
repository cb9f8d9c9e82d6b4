"""Exit 0 if the worker of this container, or what listens on the port given, says that it is ready.

Bare sockets: importing urllib costs 60 ms a check.
"""

import os
import socket
import sys

port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("EVALX_HEALTH_PORT") or 6066)
with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
    connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
sys.stdout.write(answer.decode("utf-8", "replace").partition("\r\n\r\n")[2])
sys.exit(b" 200 " not in answer.partition(b"\r\n")[0])
