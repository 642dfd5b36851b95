"""Runs other people's verifiers and signers on files in one directory: Debian's `cosign` and `sigstore-go`, npm's."""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from mvmnix.builder.oci.reference import OciRef
from mvmnix.system import process
from tests.conftest import Home
from tests.patience import EVENT_PATIENCE
from tests.private_sigstore import Sigstore, tuf
from tests.private_sigstore.server import Served
from tests.repository import ROOT

#: A trusted root with no authority in it: a key needs none.
EMPTY_ROOT = b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
#: What `make npm` installs.
NPM = ROOT / ".venv/npm"


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a verification expects, as each program wants to be told: a key's file, or an identity."""

    key: str = ""
    subject: str = ""
    issuer: str = ""

    @property
    def for_cosign(self) -> tuple[str, ...]:
        """The options of cosign; those of `mvm verify` are the same."""
        if self.key:
            return ("--key", self.key)
        return ("--certificate-identity", self.subject, "--certificate-oidc-issuer", self.issuer)

    @property
    def for_sigstore_go(self) -> tuple[str, ...]:
        """The program always wants an identity too; in a bundle with a key it looks for one at the very end."""
        if self.key:
            return ("-publicKey", self.key, "-requireCTlog=false", "-expectedSAN", "-", "-expectedIssuer", "-")
        return ("-expectedSAN", self.subject, "-expectedIssuer", self.issuer)

    @property
    def for_npm(self) -> dict[str, str]:
        """npm's package looks for the identity as a regular expression, anywhere in the certificate's."""
        if self.key:
            return {"key": self.key}
        return {"certificateIdentityURI": f"^{re.escape(self.subject)}$", "certificateIssuer": self.issuer}


@dataclass(frozen=True, slots=True)
class Bench:
    """A directory with what the programs read and write, given by file name."""

    path: Path

    def put(self, **files: bytes) -> None:
        """Write files; in names, `_` stands for a dot."""
        for name, data in files.items():
            (self.path / name.replace("_", ".")).write_bytes(data)

    def trust(self, private: Sigstore) -> None:
        """Write what the programs need to trust an instance: root.json for verifying, the rest for signing."""
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in private.ca.chain)
        self.put(root_json=private.trusted_root, rekor_pub=private.log.key.pem, ct_pub=private.ct.key.pem, ca_pem=chain)

    def run(self, *argv: str, **variables: str) -> process.Completed:
        """Run a program that sees nothing of our environment; cosign takes its trust from variables when it signs."""
        environment = {
            "HOME": str(self.path),
            "PATH": "/usr/bin",
            "COSIGN_PASSWORD": "",
            "SIGSTORE_REKOR_PUBLIC_KEY": str(self.path / "rekor.pub"),
            "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": str(self.path / "ct.pub"),
            "SIGSTORE_ROOT_FILE": str(self.path / "ca.pem"),
        }
        command = (shutil.which(argv[0]) or argv[0], *argv[1:])
        return process.run(
            command, cwd=str(self.path), env=environment | variables, check=False, timeout=EVENT_PATIENCE
        )

    def cosign(
        self,
        verb: str,
        bundle: str,
        artifact: str,
        who: Who,
        *,
        root: str = "root.json",
        log: bool = True,
        tsa: bool = False,
    ) -> process.Completed:
        """`verify-blob-attestation` or `verify-blob`; `log`, `tsa`: whether it has to have an entry, a timestamp."""
        options = ("--new-bundle-format", "--trusted-root", root, *(() if log else ("--insecure-ignore-tlog",)))
        options = (*options, *(("--use-signed-timestamps",) if tsa else ()))
        return self.run("cosign", verb, *who.for_cosign, *options, "--bundle", bundle, artifact)

    def sigstore_go(self, bundle: str, artifact: str, who: Who, *, root: str = "root.json") -> process.Completed:
        """Verify by the program of the Go library; it has no way to do without a log or timestamp."""
        options = ("-artifact", artifact, "-trustedrootJSONpath", root)
        return self.run("sigstore-go-verification", *options, *who.for_sigstore_go, bundle)

    def npm(
        self, bundle: str, artifact: str, who: Who, *, root: str = "root.json", log: bool = True
    ) -> process.Completed:
        """Verify by npm's `sigstore`. It has its trusted root from a TUF repository alone, here one in its cache.

        `log`: whether the bundle has to have an entry; without, a key alone is asked for.
        """
        if not log:
            return self.node("verify-unlogged", bundle, artifact, json.dumps(who.for_npm))
        mirror, cache = "tuf.test", self.path / f"tuf-{root}"
        if not cache.exists():
            tuf.write_cache(cache / mirror, (self.path / root).read_bytes())
        where = {"tufMirrorURL": f"https://{mirror}", "tufCachePath": str(cache), "tufForceCache": True}
        return self.node("verify", bundle, artifact, json.dumps(where | who.for_npm))

    def npm_signs(self, verb: str, file: str, served: Served, subject: str) -> str:
        """`attest` a statement or `sign` a file with the services of a private Sigstore; returns the bundle."""
        where = {"fulcioURL": served.fulcio_url, "rekorURL": served.rekor_url, "identityToken": served.token(subject)}
        done = self.node(verb, file, json.dumps(where))
        assert done.status == 0, done.stderr.decode()
        return done.stdout.decode()

    def node(self, *arguments: str) -> process.Completed:
        """Run tests/npm/sigstore.js."""
        node, modules = NPM / "node", NPM / "node_modules"
        assert node.exists() and modules.exists(), "npm's sigstore is not installed; run: make npm"
        return self.run(str(node), str(ROOT / "tests/npm/sigstore.js"), *arguments, NODE_PATH=str(modules))

    def mvm(self, bundle: str, artifact: str, who: Who, *, root: str | None = "root.json") -> process.Completed:
        """`mvm verify` by a user who has neither keys nor a policy; no root: only a key is asked for, no log."""
        options = (*who.for_cosign, *(() if root is None else ("--trusted-root", root)), "--bundle", bundle)
        return self.run(*map(str, Home.argv("verify", *options, artifact)))

    def mvm_signs(self, *options: str, at_terminal: bool = False, **variables: str) -> None:
        """`mvm plan sign` by that same user, who may sit at a terminal; mvm's own directories lie beside the files."""
        home = self.path.with_name(f"{self.path.name}-home")
        home.mkdir(exist_ok=True)
        argv = [*map(str, Home.argv("plan", "sign", *options))]
        if at_terminal:
            argv = ["script", "--quiet", "--return", "--command", shlex.join(argv), "/dev/null"]
        done = self.run(*argv, **{"HOME": str(home)} | variables)
        assert done.status == 0, (done.stdout + done.stderr).decode()

    def generate_keys(self) -> None:
        """Have cosign make two key pairs, `cosign` and `another`."""
        for prefix in ("cosign", "another"):
            made = self.run("cosign", "generate-key-pair", "--output-key-prefix", prefix)
            assert made.status == 0, made.stderr.decode()

    def cosign_attaches(self, image: OciRef, served: Served, subject: str, *argv: str, **variables: str) -> None:
        """Have cosign push evidence of an image, by a token unless there is a key in what it is called with."""
        where = ("--fulcio-url", served.fulcio_url, "--rekor-url", served.rekor_url, "--yes")
        token = () if "--key" in argv else ("--identity-token", served.token(subject))
        verb, *rest = (option.replace("{tsa}", served.tsa_url) for option in argv)
        named = f"{image.host}/{image.name}@{image.digest}"
        done = self.run("cosign", verb, *where, *token, *rest, named, COSIGN_EXPERIMENTAL="1", **variables)
        assert done.status == 0, done.stderr.decode()

    def cosign_signs(self, verb: str, bundle: str, artifact: str, served: Served, *options: str) -> None:
        """`attest-blob` or `sign-blob`, with the services of a private Sigstore."""
        where = ("--fulcio-url", served.fulcio_url, "--rekor-url", served.rekor_url, "--oidc-issuer", served.issuer_url)
        told = ("--new-bundle-format", "--yes", "--bundle", bundle)
        done = self.run("cosign", verb, *where, *told, *options, artifact)
        assert done.status == 0, done.stderr.decode()


def accepts(done: process.Completed, word: str) -> None:
    """Another program verified it, and says so."""
    assert done.status == 0, done.stderr.decode()
    assert word in (done.stdout + done.stderr).decode()


def refuses(done: process.Completed, reasons: Sequence[str] | str) -> None:
    """Another program refused it, for that reason."""
    said = done.stderr.decode()
    assert done.status != 0, said
    assert any(reason in said for reason in ([reasons] if isinstance(reasons, str) else reasons)), said
