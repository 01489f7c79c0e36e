"""Which parcels wait too long. A schedule invokes it, with the number of days as its event."""


def handler(event, context):
    return {"waiting": [parcel for parcel in event.get("parcels", []) if parcel["days"] > event["days"]]}
