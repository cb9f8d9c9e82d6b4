"""What honest Python programs use of the kernel. Each part ends in a line of its own."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing import shared_memory


def square(x):
    return x * x


async def children():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(7)", stdout=asyncio.subprocess.PIPE)
    return int((await process.communicate())[0])


async def local_server(path):
    async def answer(_reader, writer):
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        reader, writer = await asyncio.open_unix_connection(path)
        text = await reader.read()
        writer.close()
        return text.decode()


def queue():
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=queue.put, args=(5,))
    process.start()
    result = queue.get()
    process.join()
    return result


def shared():
    block = shared_memory.SharedMemory(create=True, size=100)
    block.buf[0] = 3
    result = block.buf[0]
    block.close()
    block.unlink()
    return result


def main():
    os.chdir(tempfile.mkdtemp())
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print("-", method, sum(pool.map(square, range(5))))
    print("- queue", queue())
    with multiprocessing.Manager() as manager:
        print("- manager", list(manager.list([1, 2])))
    print("- shared", shared())
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        print("- threads", sum(executor.map(square, range(5))))
    print(
        "- asyncio",
        asyncio.run(children()),
        asyncio.run(local_server("socket")),
        asyncio.run(asyncio.to_thread(square, 3)),
    )
    left, right = socket.socketpair()
    left.send(b"x")
    print("- socketpair", right.recv(1))
    with open("a", "w") as file:
        file.write("x")
    shutil.copy2("a", "b")
    os.mkfifo("fifo")
    shutil.copytree(".", "../copy-" + os.path.basename(os.getcwd()), ignore=shutil.ignore_patterns("fifo", "socket"))
    print("- files", sorted(os.listdir(".")))
    print("- shell", subprocess.run("echo 5 | cat", shell=True, capture_output=True, check=True).stdout)
    timer = threading.Timer(0.01, lambda: print("- timer"))
    timer.start()
    timer.join()
    print("end")


if __name__ == "__main__":
    main()
