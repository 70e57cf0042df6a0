"""A certificate authority of a test's own, and a certificate for localhost that it has signed."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "localhost"
DAY = datetime.timedelta(days=1)


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Return a certificate, which is that of an authority if it has signed itself."""
    now = datetime.datetime.now(datetime.UTC)
    is_authority = subject == issuer
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(signer, hashes.SHA256())
    )


def write_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write an authority, a certificate for localhost, and its key; return the three files."""
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files = folder / "ca.pem", folder / "server.pem", folder / "key.pem"
    pem = serialization.Encoding.PEM
    files[0].write_bytes(certificate("Test CA", authority, "Test CA", authority).public_bytes(pem))
    files[1].write_bytes(certificate(HOST, own, "Test CA", authority).public_bytes(pem))
    files[2].write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
