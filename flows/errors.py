"""What can go wrong in a flow before or between the stages. Every message says what was wrong, with the value, and what to do."""


class FlowError(Exception):
    """The base of all errors that `flows` raises on purpose; the command line shows them in one line and exits with 2."""


class EventError(FlowError):
    """An event is unknown, withdrawn, below the rule, or its record cannot be read."""


class EventDeletedError(EventError):
    """The USGS has withdrawn the event."""


class ContentMissingError(EventError):
    """A product lists a file that is not there, is too large, or lies where nothing is fetched from."""


class AreaError(FlowError):
    """An area of interest is empty, at sea, or unreadable."""


class ServiceError(FlowError):
    """A service that the run needs cannot be reached or answers nonsense; the message names it and its address."""


class PublicationError(FlowError):
    """A version could not be made visible."""


class CampaignError(FlowError):
    """A campaign is unknown, its document cannot be read, or it is not in a state for what was asked."""


class LeaseError(CampaignError):
    """Another step works on the campaign, or this one has lost its lease."""
