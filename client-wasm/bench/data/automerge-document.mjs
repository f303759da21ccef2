// The id of the one document that both ends of Automerge's repos know: 16 bytes of 7.

export const DOCUMENT = "6gMHXjsZ5cxdn4qSbgGYYY8CnKK";
