"""Sessions for people who work on autosparse; each uses the environment that nox runs in."""

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, spelling and types."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that mirror the package."""
    session.run("python", "-m", "pytest", "tests/unit", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all default tests."""
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take minutes."""
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in site/ (extra `docs`); `nox -s docs -- serve` shows it while you write."""
    command = ["serve"] if "serve" in session.posargs else ["build", "--strict"]
    session.run("mkdocs", *command, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def snapshots(session: nox.Session) -> None:
    """Write the generated pages, the screens and the plots; print the golden keys."""
    session.run("python", "-m", "tests.docs.reference")
    session.run("python", "-m", "tests.unit.console.test_screens")
    session.run("python", "-m", "tests.unit.planning.test_keys")
    session.run("python", "benchmarks/frontier.py", "docs/accuracy_against_cost.svg")
    session.run("python", "benchmarks/render.py")
