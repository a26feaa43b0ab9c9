"""Notify a webhook of failed flow runs, by an automation in the Prefect server."""

from datetime import timedelta

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

NAME = "opendimo: notify of failed runs"
BLOCK = "opendimo-failures"
MESSAGE = (
    '{"text": {{ (flow_run.name ~ " is " ~ flow_run.state.name ~ ": " ~ flow_run.state.message)|tojson }},'
    ' "flow_run": "{{ flow_run.id }}", "url": "{{ flow_run|ui_url }}"}'
)
"""Template of the body, as JSON also if the message has quotes or several lines."""
TRIGGER = EventTrigger(
    expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
    match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
    posture=Posture.Reactive,
    within=timedelta(0),
    threshold=1,
)


def notify_of_failures(url: str | None) -> None:
    """Send a JSON message with name, state and link of every flow run that fails or crashes; None: stop that.

    Replaces what an earlier call set up. The URL is stored as a secret of the server.
    """
    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(NAME):
            client.delete_automation(automation.id)
        if url is not None:
            Webhook(url=SecretStr(url)).save(BLOCK, overwrite=True)
            block = client.read_block_document_by_name(BLOCK, Webhook.get_block_type_slug())
            action = CallWebhook(block_document_id=block.id, payload=MESSAGE)
            client.create_automation(AutomationCore(name=NAME, trigger=TRIGGER, actions=[action]))
