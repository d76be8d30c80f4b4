"""What a site file may say of TLS, and what is refused before anything starts."""

import pytest

from agent.tests.fakes import write_site
from edgeagg.errors import ConfigError
from edgeagg_agent.config import load_site

PLAIN = 'broker = "mqtt://127.0.0.1:1883"'
TLS = 'broker = "mqtts://mq.example"'


def load(tmp_path, text):
    return load_site(write_site(tmp_path, (PLAIN, text)))


@pytest.fixture
def pem(tmp_path):
    """Return a maker of files that are no certificates, with a mode."""

    def make(name, mode=0o600):
        file = tmp_path / name
        file.write_text("no certificate")
        file.chmod(mode)
        return file

    return make


def test_without_files_the_hosts_authorities_decide(tmp_path):
    (to,) = load(tmp_path, TLS).destinations
    assert (to.host, to.port, to.tls) == ("mq.example", 8883, True)
    assert to.tls_files.ca_file == to.tls_files.cert_file == ""


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("ca_file", "ca_file: .*none.pem: no certificates: not PEM"),
        ("cert_file", "cert_file: one of two; cert_file and cert_key_file, or neither"),
        ("cert_key_file", "cert_file: one of two; cert_file and cert_key_file, or neither"),
    ],
)
def test_a_file_that_can_never_work_is_refused(tmp_path, pem, key, said):
    file = pem("none.pem")
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, f'{TLS}\n{key} = "{file}"')


def test_a_certificates_key_that_everybody_can_read_is_refused(tmp_path, pem):
    cert, key = pem("cert.pem"), pem("cert.key", 0o644)
    both = f'{TLS}\ncert_file = "{cert}"\ncert_key_file = "{key}"'
    with pytest.raises(ConfigError, match=r"cert_key_file: everybody can read .* \(mode 644\)"):
        load(tmp_path, both)
    # root:edgeagg 0640 is what an installed gateway has
    key.chmod(0o640)
    with pytest.raises(ConfigError, match=r"cert_file: .*: no certificate and its key: not PEM"):
        load(tmp_path, both)


def test_files_of_tls_without_tls_are_a_mistake(tmp_path, pem):
    with pytest.raises(ConfigError, match="ca_file: a key of mqtts://; broker = "):
        load(tmp_path, f'{PLAIN}\nca_file = "{pem("ca.pem")}"')
