"""Mail to people: what Prefect's server cannot send by itself goes out by a small flow."""

from __future__ import annotations

import asyncio
import html

from prefect import flow
from prefect.logging import get_run_logger

from flows.automations import EMAIL, block_names
from flows.errors import FlowError
from flows.hiding import hiding_secrets
from flows.settings import load_settings


@flow(name="tell", flow_run_name="tell-{subject}", persist_result=False, retries=5, retry_delay_seconds=60)
def tell(subject: str, text: str) -> int:
    """Send a message by every mail block of `alerts.blocks` to `alerts.email_to`; returns how many were sent.

    Raises `FlowError` when the package for mail is not installed.
    """
    settings = load_settings()
    try:
        from prefect_email import EmailServerCredentials, email_send_message
    except ImportError as error:
        raise FlowError("mail needs the package prefect-email: pip install 'quakeslide[mail]'") from error
    names = [name for kind, name in block_names(settings) if kind == EMAIL]
    for name in names:
        credentials = EmailServerCredentials.load(name)
        mail = email_send_message.fn(
            subject=" ".join(subject.split()),
            msg=f"<pre>{html.escape(text)}</pre>",
            msg_plain=text,
            email_server_credentials=credentials,
            email_to=settings.alerts.email_to,
        )
        with hiding_secrets():
            asyncio.run(mail)
        get_run_logger().info("told %s by %s", settings.alerts.email_to, name)
    return len(names)
