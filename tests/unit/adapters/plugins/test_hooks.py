from __future__ import annotations

from typing import Any

import pytest

from tunnel_server import hookimpl
from tunnel_server.adapters.plugins.hooks import ASYNC, NAMES, Hooks, Plugin
from tunnel_server.adapters.plugins.registered import configure
from tunnel_server.domain.errors import InvalidPlugin


def plugin(name: str = "mine", **functions: Any) -> Plugin:
    body = type("Body", (), {key: staticmethod(function) for key, function in functions.items()})
    return Plugin(name, "1", "test", body)


def nothing() -> None:
    return None


def marked(function: Any, **options: Any) -> Any:
    return hookimpl(**options)(function)


def test_implementations_are_called_in_the_order_of_their_plugins_unless_they_say_otherwise() -> None:
    hooks = Hooks(
        [
            plugin("a", startup=marked(lambda: None)),
            plugin("b", startup=marked(lambda server: None, trylast=True)),
            plugin("c", startup=marked(lambda: None)),
            plugin("d", startup=marked(lambda: None, tryfirst=True)),
        ]
    )

    assert [(hook.plugin, hook.arguments) for hook in hooks.of("startup")] == [
        ("d", ()),
        ("a", ()),
        ("c", ()),
        ("b", ("server",)),
    ]
    assert hooks.hooks_of("b") == ("startup",)


def test_a_class_is_made_once_a_server() -> None:
    class Counts:
        made = 0

        def __init__(self) -> None:
            Counts.made += 1

        @hookimpl
        def startup(self) -> None:
            pass

    Hooks([Plugin("counts", "1", "test", Counts)])
    Hooks([Plugin("counts", "1", "test", Counts)])

    assert Counts.made == 2


async def later() -> None:
    pass


class Broken:
    def __init__(self) -> None:
        raise OSError("no database")

    @hookimpl
    def startup(self) -> None:
        pass


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (plugin(starttup=marked(lambda: None)), "plugin mine: there is no hook starttup; did you mean startup"),
        (plugin(startup=marked(lambda sever: None)), "plugin mine: startup has no argument sever; it may have server"),
        (
            Plugin("mine", "1", "test", type("Body", (), {"startup": marked(lambda server: None)})),
            "startup is a method without self",
        ),
        (plugin(startup=marked(lambda *, server: None)), "startup has arguments that go by keyword only"),
        (plugin(x=marked(lambda: None, specname="strt")), "plugin mine: there is no hook strt"),
        (plugin(guard_tunnel=marked(later)), "plugin mine: guard_tunnel may not be async"),
        (plugin(startup=marked(lambda: (yield), wrapper=True)), "plugin mine: startup is a wrapper"),
        (plugin(startup=nothing), "plugin mine has no hook"),
        (plugin(startup=marked(lambda: None), shutdown=nothing), "plugin mine: shutdown is not marked"),
        (Plugin("mine", "1", "test", Broken), "plugin mine .*OSError: no database"),
        (Plugin("mine", "1", "test", None), "plugin mine has no hook"),
    ],
)
def test_a_plugin_that_is_wrong_is_refused_with_its_name_and_its_hook(wrong: Plugin, complaint: str) -> None:
    with pytest.raises(InvalidPlugin, match=complaint):
        Hooks([wrong])


def test_the_hooks_that_may_be_async_are_those_whose_pages_say_so() -> None:
    from tunnel_server import hookspecs

    said = {name for name in NAMES if "Async" in (getattr(hookspecs, name).__doc__ or "")}

    assert said | {"tunnel_closed"} == ASYNC


def test_a_hook_that_a_plugin_does_not_want_after_all_is_not_called() -> None:
    class Quiet:
        @hookimpl
        def configure(self) -> None:
            self.request_finished = None

        @hookimpl
        def request_finished(self) -> None:  # type: ignore[no-redef]
            pass

        @hookimpl
        def tunnel_opened(self) -> None:
            pass

    hooks = Hooks([Plugin("quiet", "1", "test", Quiet), plugin("other", request_finished=marked(lambda: None))])
    configure(hooks, {})

    assert [hook.plugin for hook in hooks.of("request_finished")] == ["other"]
    assert [hook.plugin for hook in hooks.of("tunnel_opened")] == ["quiet"]
