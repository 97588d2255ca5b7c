"""docs/openapi.yaml as a judge: is this answer one that the document promises?"""

import json
import re
import urllib.parse

import jsonschema
import referencing
import referencing.jsonschema
import yaml

from tests.harness.stack import ROOT

PATH = ROOT / "docs" / "openapi.yaml"
METHODS = ("get", "head", "post", "put", "delete", "patch", "options")
_URI = "urn:penstock:openapi"


class Document:
    def __init__(self):
        self.tree = yaml.safe_load(PATH.read_text())
        resource = referencing.Resource.from_contents(self.tree, referencing.jsonschema.DRAFT202012)
        self._registry = referencing.Registry().with_resource(_URI, resource)
        self._templates = [(re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path)) + "$"), path)
                           for path in sorted(self.tree["paths"], key=lambda path: path.count("{"))]

    def operations(self):
        """(METHOD, path, operation) of all there are."""
        for path, item in self.tree["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), path, item[method]

    def statuses(self, method, path):
        return list(self.tree["paths"][path][method.lower()]["responses"])

    def template(self, target):
        """The documented path a request's target belongs to, or None."""
        path = urllib.parse.urlsplit(target).path
        return next((template for pattern, template in self._templates if pattern.match(path)), None)

    def _at(self, *pointer):
        """The node at a pointer, references followed, and the pointer where it really stands."""
        node, place = self.tree, []
        for key in pointer:
            node, place = node[key], [*place, key]
            while isinstance(node, dict) and "$ref" in node:
                place = [part.replace("~1", "/").replace("~0", "~") for part in node["$ref"][2:].split("/")]
                node = self.tree
                for part in place:
                    node = node[part]
        return node, place

    def validate(self, value, *pointer):
        """Against the schema that stands there."""
        escaped = "/".join(key.replace("~", "~0").replace("/", "~1") for key in pointer)
        schema = {"$ref": f"{_URI}#/{escaped}"}
        jsonschema.Draft202012Validator(schema, registry=self._registry).validate(value)

    def check_request(self, method, target, body, media="application/json"):
        pointer = ("paths", self.template(target), method.lower(), "requestBody")
        _, place = self._at(*pointer)
        self.validate(body, *place, "content", media, "schema")

    def _check_headers(self, response, place, headers):
        for name in response.get("headers", {}):
            text = headers.get(name.lower())
            if text is None:
                continue
            header, where = self._at(*place, "headers", name)
            if header["schema"].get("type") == "integer":
                text = int(text)
            self.validate(text, *where, "schema")

    def _check_body(self, place, media, data):
        where = (*place, "content", media, "schema")
        if media == "application/x-ndjson":
            for line in data.splitlines():
                self.validate(json.loads(line), *where)
        elif media.startswith("text/"):
            self.validate(data.decode(), *where)
        else:
            self.validate(json.loads(data), *where)

    def check(self, method, target, status, headers, data):
        """Raises unless status, headers, content type and body of the answer stand in the document; returns the
        documented status, which may be "default"."""
        path = self.template(target)
        told = f"{method} {target}: {status} {headers} {data[:1000]!r}"
        assert path is not None, f"undocumented path: {told}"
        known = self.statuses(method, path)
        key = str(status) if str(status) in known else "default"
        assert key in known, f"undocumented status: {told}"
        response, place = self._at("paths", path, method.lower(), "responses", key)
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", headers.get("x-request-id", "")), f"no request id: {told}"
        self._check_headers(response, place, headers)
        if "content" not in response or method == "HEAD":
            assert not data, f"a body where none is documented: {told}"
            return key
        media = headers.get("content-type", "").split(";")[0].strip()
        assert media in response["content"], f"undocumented content type: {told}"
        self._check_body(place, media, data)
        return key
