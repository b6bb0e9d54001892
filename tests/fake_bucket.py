"""A bucket in memory behind Cloud Storage's JSON API, as far as tensorstore and gcsfs use it.

    python fake_bucket.py PORT

Generations and their preconditions are kept: on them rests that two writers do not overwrite each
other. cloud.google.com/storage/docs/json_api
"""

import itertools
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

OBJECTS: dict[str, tuple[int, bytes]] = {}  # name -> generation, content
UPLOADS: dict[str, tuple[str, dict]] = {}  # id -> name, query of an upload in one or more chunks
PARTS: dict[str, bytes] = {}  # id -> its chunks so far
GENERATIONS = itertools.count(1_700_000_000_000_001)
LOCK = threading.Lock()
OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")


def about(name: str) -> dict:
    generation, content = OBJECTS[name]
    found = {"kind": "storage#object", "bucket": "some-bucket", "name": name}
    found |= {"generation": str(generation), "metageneration": "1", "size": str(len(content))}
    return found | {"timeCreated": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}


def fails(name: str, query: dict) -> bool:
    """Whether a precondition does not hold; generation 0 is an object that is not there."""
    now = str(OBJECTS[name][0]) if name in OBJECTS else "0"
    return query.get("ifGenerationMatch", now) != now or query.get("ifGenerationNotMatch") == now


def put(name: str, content: bytes, query: dict) -> tuple[int, dict]:
    with LOCK:
        if fails(name, query):
            return 412, {"error": {"code": 412, "message": "conditionNotMet"}}
        OBJECTS[name] = (next(GENERATIONS), content)
        return 200, about(name)


def delete(name: str, query: dict) -> int:
    with LOCK:
        if name not in OBJECTS:
            return 404
        if fails(name, query):
            return 412
        del OBJECTS[name]
        return 204


def listing(query: dict) -> dict:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    items, prefixes = [], set()
    with LOCK:
        for name in sorted(OBJECTS):
            below = name[len(prefix) :]
            inside = query.get("startOffset", "") <= name
            inside &= name < query.get("endOffset", chr(0x10FFFF))
            if not name.startswith(prefix) or not inside:
                continue
            if delimiter and delimiter in below:
                prefixes.add(prefix + below.split(delimiter)[0] + delimiter)
            else:
                items.append(about(name))
    return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Says nothing."""

    def answer(self, code: int, body: dict | bytes = b"", **headers: str) -> None:
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers |= {"Content_Type": "application/json"}
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if code not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if code not in (204, 304):
            self.wfile.write(body)

    def read(self) -> tuple[str, dict, bytes]:
        url = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return url.path, dict(parse_qsl(url.query)), content

    def do_GET(self) -> None:
        path, query, _ = self.read()
        if re.fullmatch(r"/storage/v1/b/[^/]+", path):
            return self.answer(200, {"kind": "storage#bucket", "name": "some-bucket"})
        if re.fullmatch(r"/storage/v1/b/[^/]+/o/?", path):
            return self.answer(200, listing(query))
        name = unquote(OBJECT.fullmatch(path).group(2))
        with LOCK:
            if name not in OBJECTS:
                return self.answer(404, {"error": {"code": 404, "message": "Not Found"}})
            if fails(name, query):
                return self.answer(304 if "ifGenerationNotMatch" in query else 412)
            if query.get("alt") != "media":
                return self.answer(200, about(name))
            generation, content = OBJECTS[name]
        headers = {"x_goog_generation": str(generation), "x_goog_stored_content_length": "0"}
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not span:
            return self.answer(200, content, **headers)
        size = len(content)
        first = int(span[1]) if span[1] else size - int(span[2])
        last = min(int(span[2]), size - 1) if span[1] and span[2] else size - 1
        if first >= size:
            return self.answer(416, {"error": {"code": 416, "message": "range"}})
        headers["Content_Range"] = f"bytes {first}-{last}/{size}"
        return self.answer(206, content[first : last + 1], **headers)

    def do_POST(self) -> None:
        path, query, content = self.read()
        if path.startswith("/batch"):
            return self.batch(content)
        if "upload_id" in query:
            return self.chunk(query["upload_id"], content)
        copy = re.fullmatch(OBJECT.pattern + r"/(?:rewriteTo|copyTo)/b/[^/]+/o/([^/]+)", path)
        if copy:
            code, found = put(unquote(copy[3]), OBJECTS[unquote(copy[2])][1], query)
            return self.answer(code, {"done": True, "resource": found})
        kind = query["uploadType"]
        if kind == "media":
            return self.answer(*put(query["name"], content, query))
        if kind == "multipart":
            edge = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            head, body = content.split(b"--" + edge)[1:3]
            name = json.loads(head.split(b"\n\n", 1)[1])
            body = body.split(b"\n\n", 1)[1].removesuffix(b"\n")
            return self.answer(*put(name["name"], body, query))
        name = query.get("name") or json.loads(content)["name"]
        identity = str(next(GENERATIONS))
        UPLOADS[identity] = (name, query)
        here = f"http://{self.headers['Host']}{path}?uploadType=resumable&upload_id={identity}"
        return self.answer(200, {}, Location=here)

    def do_DELETE(self) -> None:
        path, query, _ = self.read()
        self.answer(delete(unquote(OBJECT.fullmatch(path).group(2)), query))

    def chunk(self, upload: str, content: bytes) -> None:
        """A chunk of a resumable upload; the object appears with the last one."""
        PARTS[upload] = PARTS.get(upload, b"") + content
        last = int(re.search(r"/(\d+)", self.headers["Content-Range"])[1])
        if len(PARTS[upload]) < last:
            return self.answer(308, Range=f"bytes=0-{len(PARTS[upload]) - 1}")
        name, query = UPLOADS[upload]
        return self.answer(*put(name, PARTS[upload], query))

    def batch(self, content: bytes) -> None:
        parts = []
        for path in re.findall(r"DELETE (\S+) HTTP", content.decode()):
            url = urlsplit(path)
            name = unquote(OBJECT.fullmatch(url.path).group(2))
            code = delete(name, dict(parse_qsl(url.query)))
            parts.append(
                f"--edge\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {code} OK\r\n\r\n"
            )
        body = ("".join(parts) + "--edge--").encode()
        self.answer(200, body, Content_Type="multipart/mixed; boundary=edge")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
