"""A local chat completions server for tests, with good and bad manners.

    openai_server.py --port 8000 --log requests.jsonl [--mode MODE]...

answers by the name of the JSON schema that a request asks for: questions, emergence, answers, verify. Every request's
body goes into the log before it is answered. Modes, in the order in which requests come, the last for all that follow:

    good          what the schema asks for, all yes, nothing flagged
    slow          the same after a second
    failing       500
    limited       429 with Retry-After: 1
    nonsense      a message that is not JSON
    truncated     a message that ends in the middle of its JSON
    short         answers to nine questions, nine questions, no index
    refused       401 that repeats the key it got
    escaping      the same, each / as \\/
    echoing       what the schema asks for, beside the key it got, each / as \\/
    dropping      closes the connection in the middle of the reply
    hanging       never answers
"""

import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

QUESTIONS = [f"Question {i} about the ball (green bbox)?" for i in range(1, 11)]


def kind_of(request: dict) -> str:
    return request["response_format"]["json_schema"]["name"]


def texts_of(request: dict) -> list[str]:
    return [part["text"] for part in request["messages"][1]["content"] if part["type"] == "text"]


def frames_of(request: dict) -> list[int]:
    return [int(text[6:-1]) for text in texts_of(request) if text.startswith("Frame ")]


def good_content(request: dict) -> dict:
    """Everything went as the prompt says."""
    return {
        "questions": {"items": [{"key_interaction": "the hand lifts the ball", "questions": QUESTIONS}]},
        "emergence": {"emergence": "no", "emergence_frames": [], "emergence_reason": "", "disappearance": "no",
                      "disappearance_frames": [], "disappearance_reason": ""},
        "answers": {"answers": [{"question_id": i, "answer": "yes", "frame_index": 0} for i in range(1, 11)]},
        "verify": {"index": 0, "confidence": 0.9, "reason": "fits"},
    }[kind_of(request)]


def short_content(request: dict) -> dict:
    content = good_content(request)
    content.get("answers", [0]).pop()
    for item in content.get("items", []):
        item["questions"] = item["questions"][:9]
    content.pop("index", None)
    content.pop("emergence_frames", None)
    return content


class OpenAiServer(ThreadingHTTPServer):
    """`mode(request, number)` names the manners for the request with this number, from 0 on; `content(request)` is the
    good answer. Requests are kept in `requests` and, if there is a path, in a log."""

    daemon_threads = True

    def __init__(self, mode=lambda request, number: "good", content=good_content, port: int = 0, log: Path | None = None):
        super().__init__(("127.0.0.1", port), Handler)
        self.mode, self.content, self.log = mode, content, log
        self.requests: list[dict] = []
        self.answered: list[dict] = []
        self.keys: set[str] = set()
        self.lock = threading.Lock()

    @property
    def api_base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

    def note(self, request: dict) -> int:
        with self.lock:
            self.requests.append(request)
            if self.log:
                with self.log.open("a") as log:
                    log.write(json.dumps(request) + "\n")
            return len(self.requests) - 1

    def handle_error(self, request, client_address):
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OpenAiServer
    escape_slashes = False

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers.get("Authorization", ""))
        number = self.server.note(request)
        mode = self.server.mode(request, number)
        if self.path != "/v1/chat/completions":
            return self.send(404, {"error": {"message": f"no {self.path} here"}})
        getattr(self, mode)(request)

    def good(self, request):
        self.message(json.dumps(self.server.content(request)))
        with self.server.lock:
            self.server.answered.append(request)

    def slow(self, request):
        time.sleep(1)
        self.good(request)

    def failing(self, request):
        self.send(500, {"error": {"message": "out of order"}})

    def limited(self, request):
        self.send(429, {"error": {"message": "too fast"}}, {"Retry-After": "1"})

    def nonsense(self, request):
        self.message("I would say that the answer is yes.")

    def truncated(self, request):
        text = json.dumps(self.server.content(request))
        self.message(text[: len(text) // 2])

    def short(self, request):
        self.message(json.dumps(short_content(request)))

    def refused(self, request):
        self.send(401, {"error": {"message": f"Incorrect API key: {self.headers['Authorization']}"}})

    def escaping(self, request):
        self.escape_slashes = True
        self.refused(request)

    def echoing(self, request):
        self.escape_slashes = True
        self.message(json.dumps(self.server.content(request)), echo=self.headers["Authorization"])

    def dropping(self, request):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.close_connection = True

    def hanging(self, request):
        time.sleep(600)

    def message(self, text: str, **more):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        self.send(200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}, **more})

    def send(self, status: int, body: dict, headers: dict | None = None):
        text = json.dumps(body)
        data = (text.replace("/", "\\/") if self.escape_slashes else text).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--mode", action="append", default=[])
    args = parser.parse_args()
    modes = args.mode or ["good"]
    server = OpenAiServer(lambda request, number: modes[min(number, len(modes) - 1)], port=args.port, log=args.log)
    print(server.api_base, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
