"""The pool that the contract of the clients is tested with."""

from kshot.clients.sdk.selection import Selection

TICKETS = [
    {"id": "t1", "inputs": "where is my parcel", "outputs": "order_status", "metadata": {"lang": "en"}},
    {"id": "t2", "inputs": "parcel not arrived yet", "outputs": "order_status", "metadata": {"lang": "en"}},
    {"id": "t3", "inputs": "I want my money back", "outputs": "refund", "metadata": {"lang": "en"}},
    {"id": "t4", "inputs": "Geld zurück bitte", "outputs": "refund", "metadata": {"lang": "de"}},
    {"id": "t5", "inputs": "the app crashes on start", "outputs": "crash", "metadata": {"lang": "en"}},
]


def ids_of(selection: Selection) -> list[str]:
    return [str(shown.id) for shown in selection]
