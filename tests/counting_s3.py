"""An S3 server on loopback that counts the bytes of tars that it sends."""

import logging
import threading
from contextlib import contextmanager

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Counting:
    """A WSGI application around moto's."""

    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)
        self.sent = self.gets = self.lists = 0
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        chunks = list(self.app(environ, start_response))
        with self.lock:
            if environ["REQUEST_METHOD"] == "GET" and path.endswith(".tar"):
                self.gets += 1
                self.sent += sum(map(len, chunks))
            self.lists += "list-type" in query
        return chunks


@contextmanager
def counting_s3():
    """The application and its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Counting()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield app, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
