"""A server on 127.0.0.1 that answers huggingface_hub like the Hugging Face Hub: create, fill, download a repository."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

COMMIT = "0" * 39 + "1"


class Handler(http.server.BaseHTTPRequestHandler):
    """Repositories are {name: {path: bytes}} in the server's `repositories`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, code=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(?:revision|tree)/[^/]+)?", path):
            files = self.server.repositories.get(match[1])
            if files is None:
                self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                self.answer([{"type": "file", "path": p, "size": len(b), "oid": COMMIT} for p, b in files.items()])
            else:
                self.answer({"id": match[1], "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            content = self.server.repositories.get(match[1], {}).get(match[2])
            if content is None:
                self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            else:
                self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        else:
            self.answer({})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            about = json.loads(body)
            repo = f"{about['organization']}/{about['name']}" if about.get("organization") else about["name"]
            self.server.repositories.setdefault(repo, {})
            self.answer({"url": f"{self.server.url}/{repo}"})
        elif "/preupload/" in self.path:
            upload = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": file["path"], **upload} for file in json.loads(body)["files"]]
            self.answer({"files": files})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            repo = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path.partition("?")[0])[1]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.repositories[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})


@contextlib.contextmanager
def hub():
    """The server. Set HF_ENDPOINT to its `url` before huggingface_hub is imported."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.repositories = {}
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
