-- Sends every film that arrives on to rxray; what rxray sends back (reports, pictures) is not sent again.
function OnStoredInstance(instanceId, tags, metadata, origin)
  if tags['Modality'] == 'CR' or tags['Modality'] == 'DX' then
    SendToModality(instanceId, 'rxray')
  end
end
