"""The form field `callback_url`: where the webhook of a finished task is sent."""

from captiond.callbacks import BadUrl, check_callback_url
from captiond.settings.config import WebhookSettings
from captiond.web.field_problems import problem
from captiond.web.problems import InvalidRequest
from captiond.web.uploading.forms import CALLBACK_URL, Form

FIELD = CALLBACK_URL


def callback_url_of(form: Form, settings: WebhookSettings) -> str | None:
    """Return the form's callback URL, or None if it has none. An empty field counts as absent.

    Raises:
        InvalidRequest: webhooks are off, the value is not a URL, or `[webhooks] allow` does not
            list its host.
    """
    url: object = form.fields.get(FIELD)
    if url is None or (form.document is None and not str(url).strip()):
        return None
    if not isinstance(url, str):
        raise InvalidRequest([problem("string_type", FIELD, "Input should be a string", url)])
    try:
        check_callback_url(url, settings.allow)
    except BadUrl as error:
        raise InvalidRequest([problem("value_error", FIELD, str(error), url)]) from None
    return url
