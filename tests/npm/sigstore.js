// Verifies and signs with npm's `sigstore`, for tests/integration/interop.py: the verb, files, and options as JSON.
'use strict'
const crypto = require('node:crypto')
const fs = require('node:fs')
const sigstore = require('sigstore')
const { bundleFromJSON } = require('@sigstore/bundle')
const { TrustedRoot } = require('@sigstore/protobuf-specs')
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify')

const read = file => fs.readFileSync(file)

// Subjects are the caller's to compare: npm does it itself, by the one digest that it knows (pacote, lib/registry.js).
function compare (bundle, artifact) {
  const { subject } = JSON.parse(Buffer.from(bundle.dsseEnvelope.payload, 'base64'))
  const digest = crypto.createHash('sha256').update(artifact).digest('hex')
  if (!subject.some(one => one.digest.sha256 === digest)) throw new Error('no subject has the digest of the artifact')
  return 'verified'
}

const verbs = {
  async verify (bundleFile, artifactFile, { key, ...options }) {
    const [bundle, artifact] = [JSON.parse(read(bundleFile)), read(artifactFile)]
    const keySelector = key && (() => read(key).toString())
    await sigstore.verify(bundle, { ...options, keySelector })
    return compare(bundle, artifact)
  },

  // A key's signature in no log: `sigstore` has no option for that, the packages that it is made of have one.
  async 'verify-unlogged' (bundleFile, artifactFile, { key }) {
    const [bundle, artifact] = [JSON.parse(read(bundleFile)), read(artifactFile)]
    const finder = () => ({ publicKey: crypto.createPublicKey(read(key)), validFor: () => true })
    const trust = toTrustMaterial(TrustedRoot.fromJSON({}), finder)
    new Verifier(trust, { tlogThreshold: 0, timestampThreshold: 0 }).verify(toSignedEntity(bundleFromJSON(bundle)))
    return compare(bundle, artifact)
  },

  async sign (file, options) {
    return JSON.stringify(await sigstore.sign(read(file), options))
  },

  async attest (file, options) {
    return JSON.stringify(await sigstore.attest(read(file), 'application/vnd.in-toto+json', options))
  }
}

const [verb, ...words] = process.argv.slice(2)
const options = JSON.parse(words.pop())
verbs[verb](...words, options).then(console.log, error => {
  console.error(`${error.code ?? error.name}: ${error.message}`)
  process.exitCode = 1
})
