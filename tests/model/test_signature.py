from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from make_candidate import make_candidate

from streamtrain.model.seal import VersionError
from streamtrain.model.signature import KeyFileError, PublicKey, read_public_key
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.publish.signing import generate, read_signing_key
from streamtrain.router.load import load
from streamtrain.router.router import Router

PROBE = [0.5] * 5


@pytest.fixture
def key_file(tmp_path):
    generate(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def signed(models, key_file):
    with Registry(models, signer=read_signing_key(key_file)) as registry:
        yield registry


def publish(registry, seed=0):
    return registry.publish(registry.stage(build(make_candidate(seed))))


def public(key_file):
    return read_public_key(f"{key_file}.pub")


def test_the_signature_is_plain_ed25519_over_the_manifest(models, signed, key_file):
    """Checked by OpenSSL, as the manual says."""
    publish(signed)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{key_file}.pub", "-rawin"]
    command += ["-in", models / "current" / "manifest.json", "-sigfile", models / "current" / "manifest.json.sig"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_router_with_a_key_takes_what_is_signed(models, signed, key_file):
    version = publish(signed)
    with Router(models, poll_interval_s=None, public_key=f"{key_file}.pub") as router:
        assert router.version == version
        second = publish(signed, 1)
        assert router.poll()
        assert router.version == second
    assert load(models, public(key_file)).version == second
    with Router(models, poll_interval_s=None) as without:
        assert without.version == second


def test_a_router_with_a_key_refuses_what_is_not(models, signed, key_file, tmp_path):
    version = publish(signed)
    with Router(models, poll_interval_s=None, public_key=public(key_file)) as router:
        signed.close()
        with Registry(models) as unsigned:
            publish(unsigned, 1)
        assert not router.poll()
        assert router.version == version
        assert "not signed" in (router.failure or "")
        generate(tmp_path / "other")
        with Registry(models, signer=read_signing_key(tmp_path / "other")) as other:
            publish(other, 2)
        assert not router.poll()
        assert "is not a signature of manifest.json by the public key set" in (router.failure or "")
        assert router.version == version


def test_a_signature_of_another_version_is_refused(models, signed, key_file):
    first, second = publish(signed, 0), publish(signed, 1)
    versions = models / "versions"
    (versions / second / "manifest.json.sig").write_bytes((versions / first / "manifest.json.sig").read_bytes())
    with pytest.raises(VersionError, match="is not a signature of"):
        load(models, public(key_file))
    # The whole of the first, under the second's name.
    for file in (versions / first).iterdir():
        (versions / second / file.name).write_bytes(file.read_bytes())
    with pytest.raises(VersionError, match=f"its signature is of version '{first}'"):
        load(models, public(key_file))
    with Router(models, poll_interval_s=None, public_key=public(key_file)) as router:
        assert router.version is None


def test_every_changed_byte_of_a_signature_is_noticed(models, signed, key_file):
    publish(signed)
    file = models / "current" / "manifest.json.sig"
    good, key = file.read_bytes(), public(key_file)
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(VersionError):
            load(models, key)
    for other in (b"", good[:-1], good + b"\n", b"\0" * 64):
        file.write_bytes(other)
        with pytest.raises(VersionError):
            load(models, key)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(VersionError, match="not signed"):
        load(models, key)


def test_a_manifest_sealed_anew_is_still_not_signed(models, signed, key_file):
    """Digests are no secret: whoever changes a file can make them fit, but not the signature."""
    publish(signed)
    signature = (models / "current" / "manifest.json.sig").read_bytes()
    forged = build(make_candidate(7))
    for name, data in forged.items():
        (models / "current" / name).write_bytes(data)
    assert (models / "current" / "manifest.json.sig").read_bytes() == signature
    load(models)
    with pytest.raises(VersionError, match="is not a signature of"):
        load(models, public(key_file))


def test_stepping_back_to_an_unsigned_version_is_refused_where_a_key_is_set(models, key_file):
    with Registry(models) as unsigned:
        old = publish(unsigned)
    with Registry(models, signer=read_signing_key(key_file)) as registry:
        assert [info.damage is None for info in registry.versions()] == [False]
        new = publish(registry, 1)
        with pytest.raises(VersionError, match="not signed"):
            registry.rollback()
        assert registry.current() == new
        assert registry.receipts.read()[-1]["outcome"] == "failed"
    assert Registry(models).rollback() == old


def test_while_a_key_is_replaced_both_are_taken(models, key_file, tmp_path):
    new_public = generate(tmp_path / "new")
    both = tmp_path / "both.pub"
    both.write_bytes(key_file.with_name("key.pub").read_bytes() + new_public.read_bytes())
    with Router(models, poll_interval_s=None, public_key=both) as router:
        for file in (key_file, tmp_path / "new"):
            with Registry(models, signer=read_signing_key(file)) as registry:
                version = publish(registry)
            router.poll()
            assert router.version == version


def test_a_file_by_itself_is_not_signed(models, signed, key_file):
    publish(signed)
    with pytest.raises(VersionError, match="not signed"):
        load(models / "current" / "fastgrnn.safetensors", public(key_file))


def test_the_private_key_is_for_its_owner_and_never_overwritten(key_file):
    assert key_file.stat().st_mode & 0o777 == 0o600
    before = key_file.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate(key_file)
    assert key_file.read_bytes() == before
    key_file.unlink()
    with pytest.raises(KeyFileError, match=r"key\.pub exists"):
        generate(key_file)
    assert not key_file.exists()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o601])
def test_a_signing_key_that_others_could_read_is_refused(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600"):
        read_signing_key(key_file)


def test_what_is_no_signing_key_is_refused_and_not_shown(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    other = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    contents = {
        "nonsense": b"secret nonsense",
        "empty": b"",
        "public": key.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo),
        "another kind": other.private_bytes(pem, pkcs8, NoEncryption()),
        "with a password": key.private_bytes(pem, pkcs8, BestAvailableEncryption(b"word")),
    }
    for name, content in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(KeyFileError, match="expected an Ed25519 private key") as caught:
            read_signing_key(file)
        assert "secret" not in str(caught.value)
    with pytest.raises(KeyFileError, match="No such file"):
        read_signing_key(tmp_path / "missing")


def test_what_is_no_public_key_is_refused(tmp_path, key_file):
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "other").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "broken").write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    (tmp_path / "nonsense").write_bytes(b"nonsense")
    (tmp_path / "huge").write_bytes(b"x" * 100_000)
    reasons = {"other": "another kind", "broken": "expected", "nonsense": "no PUBLIC KEY", "huge": "no PUBLIC KEY"}
    reasons |= {"key": "private key", "missing": "No such file"}
    for name, reason in reasons.items():
        with pytest.raises(KeyFileError, match=reason):
            read_public_key(tmp_path / name)
    with pytest.raises(ValueError, match="no key given"):
        PublicKey([])
    with pytest.raises(KeyFileError):
        Router(tmp_path, public_key=tmp_path / "missing")
