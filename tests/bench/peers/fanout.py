"""fanout.py aiohttp|httpx ORIGIN COUNT chat|embeddings: COUNT calls at once; prints {"wall_s", "cpu_s", "rss_mib", "errors"}."""

import asyncio
import json
import resource
import sys
import time

client, origin, count, kind = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
PATHS = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}


def body(index):
    if kind == "embeddings":
        return {"model": "sim-model", "input": f"document {index}"}
    return {"model": "sim-model", "messages": [{"role": "user", "content": f"prompt {index}"}]}


async def with_aiohttp():
    import aiohttp

    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        async def call(index):
            async with session.post(origin + PATHS[kind], json=body(index)) as answer:
                await answer.read()
                return answer.status == 200

        return await asyncio.gather(*(call(index) for index in range(count)), return_exceptions=True)


async def with_httpx():
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=600) as session:
        async def call(index):
            return (await session.post(origin + PATHS[kind], json=body(index))).status_code == 200

        return await asyncio.gather(*(call(index) for index in range(count)), return_exceptions=True)


begin = time.monotonic()
results = asyncio.run({"aiohttp": with_aiohttp, "httpx": with_httpx}[client]())
usage = resource.getrusage(resource.RUSAGE_SELF)
# Its ru_maxrss would be that of the process which started us: Linux hands it on.
with open("/proc/self/status", encoding="ascii") as status:
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print(json.dumps({"wall_s": time.monotonic() - begin, "cpu_s": usage.ru_utime + usage.ru_stime,
                  "rss_mib": peak_kib / 1024, "errors": sum(result is not True for result in results)}))
