"""The spec of a command without a name, and the reason for the choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.errors import UsageError
from autosparse.spec import FILE, SpecPath, about_shipped, find_spec, remember_spec, shipped
from autosparse.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, with `here/below` as the current directory and no spec in the environment."""
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    monkeypatch.delenv("AUTOSPARSE_SPEC", raising=False)
    return Store(tmp_path / "cache")


def test_a_named_file_needs_no_reason(store: Store) -> None:
    """A named file is chosen, whether or not it exists."""
    assert SpecPath(Path("mine.yaml"), None) == find_spec("mine.yaml", store)


@pytest.mark.parametrize("name", ["digits", "digits.yaml", "specs/digits.yaml", "specs/digits", "./digits.yaml"])
def test_the_name_of_a_shipped_spec_means_it(store: Store, name: str) -> None:
    """README's commands work outside a checkout: the shipped spec is taken, and that is said."""
    chosen = find_spec(name, store)

    assert shipped("specs")["digits"] == chosen.path
    assert f"{name} is not here; using the bundled spec of that name" == chosen.why


def test_a_file_goes_before_the_shipped_spec_of_its_name(store: Store) -> None:
    """A file of that name that is here is the one that is meant."""
    Path("digits.yaml").touch()

    assert SpecPath(Path("digits.yaml"), None) == find_spec("digits.yaml", store)


@pytest.mark.parametrize("name", ["elsewhere/digits.yaml", "/digits.yaml", "no-such-spec"])
def test_another_path_is_not_a_shipped_spec(store: Store, name: str) -> None:
    """A path elsewhere is what it says."""
    assert SpecPath(Path(name), None) == find_spec(name, store)


def test_another_suffix_is_not_a_shipped_spec(store: Store) -> None:
    """`digits.json` is not `digits.yaml`."""
    assert SpecPath(Path("digits.json"), None) == find_spec("digits.json", store)


def test_a_long_name_is_only_a_name(store: Store) -> None:
    """A name that no file can have is refused by the loader, not by a crash."""
    assert SpecPath(Path("a" * 300), None) == find_spec("a" * 300, store)


def test_nothing_else_means_the_digits(store: Store) -> None:
    """Without any spec, the shipped digits spec shows the whole program."""
    chosen = find_spec(None, store)

    assert SpecPath(shipped("specs")["digits"], "no other spec was found: it ships with autosparse") == chosen


def test_the_file_here_or_above(store: Store) -> None:
    """`autosparse.yaml` here goes before the one above, which goes before the shipped spec."""
    above = Path.cwd().parent
    (above / FILE).touch()

    chosen = find_spec(None, store)

    assert SpecPath(above / FILE, f"it is in {above}") == chosen

    Path(FILE).touch()

    assert Path(FILE) == find_spec(None, store).path


def test_the_last_one_used_here(store: Store) -> None:
    """The spec last used in a directory goes before files in it; below it, its path is relative."""
    Path(FILE).touch()
    Path("other.yaml").touch()
    remember_spec(Path("other.yaml"), store)

    assert SpecPath(Path("other.yaml"), "it is the last one used here") == find_spec(None, store)


def test_a_remembered_spec_elsewhere_has_its_whole_path(store: Store) -> None:
    """A spec from another directory is shown with its whole path."""
    above = Path.cwd().parent / "other.yaml"
    above.touch()
    remember_spec(Path("../other.yaml"), store)

    assert above == find_spec(None, store).path


def test_each_directory_remembers_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories remember separate specs."""
    Path("other.yaml").touch()
    remember_spec(Path("other.yaml"), store)
    monkeypatch.chdir("..")

    assert shipped("specs")["digits"] == find_spec(None, store).path


def test_a_remembered_spec_that_is_gone_is_forgotten(store: Store) -> None:
    """A deleted spec is not offered."""
    Path("other.yaml").touch()
    remember_spec(Path("other.yaml"), store)
    Path("other.yaml").unlink()

    assert shipped("specs")["digits"] == find_spec(None, store).path


def test_the_variable_goes_before_the_directory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AUTOSPARSE_SPEC` goes before the remembered spec and the local one, but not before a name."""
    for name in (FILE, "used.yaml", "variable.yaml"):
        Path(name).touch()
    remember_spec(Path("used.yaml"), store)
    monkeypatch.setenv("AUTOSPARSE_SPEC", "variable.yaml")

    assert SpecPath(Path("variable.yaml"), "it is in `AUTOSPARSE_SPEC`") == find_spec(None, store)
    assert SpecPath(Path("named.yaml"), None) == find_spec("named.yaml", store)


def test_a_variable_that_names_no_file_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale `AUTOSPARSE_SPEC` is an error, not passed over."""
    monkeypatch.setenv("AUTOSPARSE_SPEC", "gone.yaml")

    with pytest.raises(UsageError, match=r"`AUTOSPARSE_SPEC` names gone\.yaml, which is not a file"):
        find_spec(None, store)


@pytest.mark.parametrize("kind", ["specs", "templates"])
def test_what_ships_says_what_it_is_for(kind: str) -> None:
    """Every shipped spec and template begins with a comment that lists show."""
    files = shipped(kind)

    assert files
    assert [] == [name for name, path in files.items() if len(about_shipped(path)) < 20]
