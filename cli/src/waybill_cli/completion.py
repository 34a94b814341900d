"""`waybill completion`: what the shell completes. Names come from the installed contracts; no gateway is asked."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class
from waybill_client import MethodError, State, contracts

SHELLS = ("bash", "zsh", "fish")
# Contracts of what every gateway has, and of the trace receiver.
_SHARED = frozenset({"admin", "events", "traces"})
STATE = click.Choice([state.value for state in State if state is not State.UNSPECIFIED], case_sensitive=False)


def domain_services() -> tuple[str, ...]:
    """The services that have operations: those whose contracts are installed."""
    return tuple(name for name in contracts.services() if name not in _SHARED)


def complete_service(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Services that have operations."""
    return _beginning(domain_services(), incomplete)


def complete_callee(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Everything that has methods."""
    return _beginning(contracts.services(), incomplete)


def complete_state(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """States, however they are written so far."""
    return _beginning(STATE.choices, incomplete.upper())


def complete_method(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Methods of the service that stands before."""
    try:
        known = contracts.methods(context.params.get("service") or "")
    except MethodError:
        return []
    return _beginning(map(contracts.kebab, known), incomplete)


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the code that makes SHELL complete this command's words: services, methods, states, options.

    \b
    bash  eval "$(waybill completion bash)"        in ~/.bashrc
    zsh   eval "$(waybill completion zsh)"         in ~/.zshrc, after compinit
    fish  waybill completion fish | source         in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click does not complete {shell}")
    # The template alone: `source` runs the shell to look at its version.
    made = kind(context.find_root().command, {}, "waybill", "_WAYBILL_COMPLETE")
    click.echo(made.source_template % made.source_vars())


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
